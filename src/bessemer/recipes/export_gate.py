"""What a CPU build costs and gains against its source model, and whether that will do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.cpu.manifest import Backend
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import OUTPUTS, Encoded, Encoder, Output
from bessemer.encoders.precision import lowest_cosines
from bessemer.evaluation.clusters import cluster_queries
from bessemer.evaluation.compare import compare_pair
from bessemer.evaluation.evaluate import evaluate_runs, run_system
from bessemer.measures import PRIMARY
from bessemer.recipes.data import Material
from bessemer.recipes.systems import bm25_over, dense_over
from bessemer.search.encoded_texts import unified_in
from bessemer.search.retriever import DenseRetriever, Retriever
from bessemer.search.unified import UnifiedRetriever
from bessemer.training.dev_pool import EvaluationPool, build_dev_pool
from bessemer.types import Judged, Passage

N_SAMPLED = 64
"""Texts on which vectors are compared and encoding is timed."""
N_TIMED, REST_SECONDS = 20, 0.2
QUERY_CHARACTERS = 60
MIN_COSINE: Mapping[Backend, float] = {"onnx": 0.9999, "openvino": 0.9999, "onnx-int8": 0.98}
"""Least cosine of what a sampled text is encoded to. For int8 it decides only where no recall is measured."""
CALLED: Mapping[Output, str] = {
    "dense": "dense vectors",
    "sparse": "sparse weights",
    "multi_vector": "token vectors",
}
SOURCE, BUILD, QUERIES = "source", "build", "build's queries, source's passages"


@dataclass(frozen=True)
class Verdict:
    """``refusal`` says in figures why the build is not good enough, and is empty for one that is. ``stands_for``:
    whether its queries may search the source's passages."""

    measured: dict[str, Any]
    refusal: str
    stands_for: bool


class Gate:
    """Judges builds of ``source`` by nDCG@10 over a dev set, or without one by what ``texts`` are encoded to."""

    def __init__(
        self, config: Config, source: DenseEncoder, backend: Backend, texts: Sequence[str], material: Material | None
    ) -> None:
        self.config, self.source, self.backend = config, source, backend
        self.material = material
        self.texts = _spread(texts, N_SAMPLED)
        asked = [query.searched_text for query in material.collection.splits["dev"].queries] if material else ()
        self.queries = _spread(asked, N_TIMED) if asked else [_as_query(text) for text in _spread(texts, N_TIMED)]

    def judge(self, build: CpuEncoder, n_bytes: int) -> Verdict:
        """``n_bytes``: of the build's files."""
        systems: dict[str, dict[str, float]] = {
            SOURCE: {"bytes": _weight_bytes(self.source)},
            BUILD: {"bytes": n_bytes},
        }
        for name, encoder in ((SOURCE, self.source), (BUILD, build)):
            systems[name] |= self._speed(encoder)
        cosines = lowest_cosines(_compared(build, self.texts), self._exact)
        farthest = min(cosines, key=lambda output: cosines[output])
        cosine = cosines[farthest]
        measured: dict[str, Any] = {"systems": systems, "lowest_cosine": cosine, "n_compared_texts": len(self.texts)}
        floor = MIN_COSINE[self.backend]
        is_close = cosine >= floor
        reason = f"its {CALLED[farthest]} have cosine {cosine:.6f} with the source's, below {floor:g}"
        if self._pool is None:
            measured["recall"] = "not measured: no --data was given"
            is_float = self.backend != "onnx-int8"
            return Verdict(measured, "" if is_close else reason, is_close and is_float)
        losses = self._losses(build, measured)
        limit = self.config.export.max_loss
        if not is_close and self.backend != "onnx-int8":
            return Verdict(measured, reason, False)
        values = [systems[name][PRIMARY] for name in (SOURCE, BUILD)]
        refusal = f"{PRIMARY} on dev falls from {values[0]:.4f} to {values[1]:.4f}, more than the {limit:g} allowed"
        return Verdict(measured, refusal if losses[BUILD] > limit else "", losses[QUERIES] <= limit)

    @cached_property
    def _exact(self) -> Encoded:
        """What the source makes of the sampled texts in float32."""
        exact = self.source.with_prompts({})
        exact.bf16 = False
        exact.n_truncated = {"query": 0, "passage": 0}
        return _compared(exact, self.texts)

    @cached_property
    def _cached(self) -> Encoder:
        if unified_in(self.source):
            return self.source
        return CachedEncoder(self.source, self.config.workspace_folder / "embeddings")

    @cached_property
    def _pool(self) -> EvaluationPool | None:
        """Dev queries over what could be found for them: a large corpus need not be encoded by every build."""
        if self.material is None:
            return None
        dev, passages = self.material.collection.splits["dev"], self.material.collection.passages
        texts = [query.searched_text for query in dev.queries]
        retrieved = [r.search(texts, 100) for r in (bm25_over(passages), dense_over(passages, self._cached))]
        return build_dev_pool(dev, passages, retrieved, self.config.seed)

    @cached_property
    def _of_source(self) -> Encoded:
        assert self._pool is not None
        return _encoded(self._cached, self._pool.passages)

    def _losses(self, build: CpuEncoder, measured: dict[str, Any]) -> dict[str, float]:
        """nDCG@10 lost by the build, and by its queries over the source's passages. Puts all figures into
        ``measured``."""
        pool = self._pool
        assert pool is not None
        passages = {SOURCE: self._of_source, BUILD: _encoded(build, pool.passages), QUERIES: self._of_source}
        runs = [
            run_system(
                name,
                _retriever(self._cached if name == SOURCE else build, pool.passages, found),
                pool.queries,
                self.config.evaluation.top_k,
            )
            for name, found in passages.items()
        ]
        evaluation = evaluate_runs(runs, Judged(pool.queries, pool.qrels), self.config.evaluation)
        documents = {passage.passage_id: passage.doc_id for passage in pool.passages}
        clusters = cluster_queries(evaluation.queries, pool.qrels, documents)
        losses = {}
        measured |= {"dev": pool.statement, "max_loss": self.config.export.max_loss, "comparisons": []}
        for name in passages:
            measured["systems"].setdefault(name, {})[PRIMARY] = evaluation.mean(name, PRIMARY)
        for name in (BUILD, QUERIES):
            n_samples = self.config.evaluation.bootstrap_samples
            found = compare_pair(evaluation, SOURCE, name, PRIMARY, clusters, n_samples)
            measured["comparisons"].append(found)
            losses[name] = -found.difference
        return losses

    def _speed(self, encoder: DenseEncoder | CpuEncoder) -> dict[str, float]:
        """Single queries one after another, and the sampled passages at once, after a warm-up of each. Threads of what
        ran before spin for a while, hence the rest."""
        time.sleep(REST_SECONDS)
        encoder.encode_queries(self.queries[:3])
        seconds = [_seconds(partial(encoder.encode_queries, [text])) for text in self.queries]
        encoder.encode_passages(self.texts[:3])
        together = _seconds(partial(encoder.encode_passages, self.texts))
        return {"query_ms": 1000 * statistics.median(seconds), "passages_per_second": len(self.texts) / together}


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _as_query(text: str) -> str:
    """As long as what people ask: the first line, often a heading, of a passage."""
    return text.strip().partition("\n")[0][:QUERY_CHARACTERS]


def _spread(items: Sequence[str], n: int) -> list[str]:
    return list(items[:: max(1, -(-len(items) // n))])


def _compared(encoder: Encoder, texts: Sequence[str]) -> Encoded:
    """All outputs, none of them rounded."""
    unified = unified_in(encoder)
    return _all_outputs(unified.with_settings(multi_vector_precision="float32") if unified else encoder, texts)


def _encoded(encoder: Encoder, passages: Sequence[Passage]) -> Encoded:
    return _all_outputs(encoder, [passage.indexed_text for passage in passages])


def _all_outputs(encoder: Encoder, texts: Sequence[str]) -> Encoded:
    unified = unified_in(encoder)
    return unified.encode_passages(texts, outputs=OUTPUTS) if unified else encoder.encode_passages(texts)


def _retriever(encoder: Encoder, passages: Sequence[Passage], encoded: Encoded) -> Retriever:
    ids = [passage.passage_id for passage in passages]
    unified = unified_in(encoder)
    if unified:
        return UnifiedRetriever(unified, ids, encoded)
    assert encoded.dense is not None
    return DenseRetriever(encoder, ids, encoded.dense)


def _weight_bytes(encoder: DenseEncoder) -> int:
    return sum(int(np.prod(tensor.shape)) * tensor.element_size() for tensor in encoder.model.parameters())


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
