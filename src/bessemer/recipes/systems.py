"""The systems that are compared, and how each one runs over a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bessemer.config import EvaluationConfig
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.encoder import OUTPUTS, Encoded, Encoder, Similarity
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ArtifactError
from bessemer.evaluation.compare import further_slice
from bessemer.evaluation.evaluate import run_system
from bessemer.search.bm25 import BM25, TfIdf
from bessemer.search.max_sim import MultiVectorRetriever, token_vectors
from bessemer.search.retriever import DenseRetriever
from bessemer.search.sparse import SparseRetriever, sparse_rows
from bessemer.search.unified import UnifiedRetriever
from bessemer.types import Judged, Passage, Query, Run


@dataclass(frozen=True)
class BaseRuns:
    """BM25 and the base model on the test queries, and on the dev queries for the dev pool."""

    bm25: Run
    base: Run
    dev_bm25: Run
    dev_base: Run


def run_base_systems(
    test: Judged, dev: Judged, passages: Sequence[Passage], encoder: Encoder, config: EvaluationConfig
) -> BaseRuns:
    """What stands before any tuning. Depth ``config.top_k``."""
    bm25 = bm25_over(passages)
    base = dense_over(passages, encoder)
    return BaseRuns(
        bm25=run_system("bm25", bm25, test.queries, config.top_k),
        base=run_dense("base", base, test.queries, config.top_k),
        dev_bm25=run_system("bm25", bm25, dev.queries, config.top_k),
        dev_base=run_dense("base", base, dev.queries, config.top_k),
    )


@dataclass(frozen=True)
class TunedRuns:
    """The tuned model on the test and on the dev queries."""

    test: Run
    dev: Run


def run_tuned(
    test: Judged, dev: Judged, passages: Sequence[Passage], encoder: Encoder, config: EvaluationConfig
) -> TunedRuns:
    retriever = dense_over(passages, encoder)
    runs = [run_dense("tuned", retriever, judged.queries, config.top_k) for judged in (test, dev)]
    return TunedRuns(*runs)


def run_dense(name: str, retriever: DenseRetriever, queries: Sequence[Query], top_k: int) -> Run:
    """As `run_system`; vectors of queries that come from the cache count with the time that they had taken, so that a
    second run tells the speed of the first."""
    before = _kept_seconds(retriever.encoder)
    run = run_system(name, retriever, queries, top_k)
    kept = _kept_seconds(retriever.encoder) - before
    return replace(run, queries_per_second=1 / (1 / run.queries_per_second + kept / len(queries))) if kept else run


def _kept_seconds(encoder: Encoder) -> float:
    return encoder.kept_seconds["query"] if isinstance(encoder, CachedEncoder) else 0.0


def bm25_over(passages: Sequence[Passage]) -> BM25:
    return BM25.build([passage.passage_id for passage in passages], [passage.indexed_text for passage in passages])


def tfidf_over(passages: Sequence[Passage]) -> TfIdf:
    return TfIdf.build([passage.passage_id for passage in passages], [passage.indexed_text for passage in passages])


def dense_over(passages: Sequence[Passage], encoder: Encoder, similarity: Similarity | None = None) -> DenseRetriever:
    """Exact search with the encoder's own similarity, or with ``similarity``."""
    vectors = encoder.encode_passages([passage.indexed_text for passage in passages]).dense
    if vectors is None:
        raise ArtifactError("this encoder gives no dense vectors; choose a dense model")
    return DenseRetriever(encoder, [passage.passage_id for passage in passages], vectors, similarity)


def sparse_over(passages: Sequence[Passage], encoder: Encoder) -> tuple[SparseRetriever, Encoded]:
    """The retriever, and what it searches."""
    found = encoder.encode_passages([passage.indexed_text for passage in passages])
    return SparseRetriever(encoder, [passage.passage_id for passage in passages], sparse_rows(found)), found


def multi_vectors_over(passages: Sequence[Passage], encoder: Encoder) -> tuple[MultiVectorRetriever, Encoded]:
    """The retriever, and what it searches."""
    found = encoder.encode_passages([passage.indexed_text for passage in passages])
    return MultiVectorRetriever(encoder, [passage.passage_id for passage in passages], token_vectors(found)), found


def unified_over(passages: Sequence[Passage], encoder: UnifiedEncoder) -> tuple[UnifiedRetriever, Encoded]:
    """The retriever, with the model's own lane weights, and what it searches."""
    found = encoder.encode_passages([passage.indexed_text for passage in passages], outputs=OUTPUTS)
    return UnifiedRetriever(encoder, [passage.passage_id for passage in passages], found), found


def further_slices(
    splits: Mapping[str, Judged], passages: Sequence[Passage], base: Encoder, tuned: Encoder, config: EvaluationConfig
) -> list[dict[str, Any]]:
    """Rows of the slice table for judged splits beyond train, dev and test, such as `seen`. They decide nothing."""
    rows = []
    for name, judged in splits.items():
        if name in ("train", "dev", "test") or not judged.queries:
            continue
        before, after = (
            run_dense(system, dense_over(passages, encoder), judged.queries, config.top_k)
            for system, encoder in (("base", base), ("tuned", tuned))
        )
        rows.append(further_slice(f"further questions: {name}", before, after, judged, passages, config))
    return rows
