"""A searchable index on disk: exact lanes, fused by RRF, stamped with the model's fingerprint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.late_chunking import LateChunkedEncoder
from bessemer.errors import ConfigError
from bessemer.recipes.data import (
    open_collection,
    open_search_encoder,
    passage_tokens,
    require_one_input,
    require_outside,
)
from bessemer.recipes.encoding_plan import encoding_step
from bessemer.recipes.index_fusion import fusion_collection, tune_index
from bessemer.recipes.index_questions import questions_for_index
from bessemer.recipes.output import plain
from bessemer.recipes.plan import plan_of, step_of
from bessemer.recipes.prepare import Chunked, prepare_corpus
from bessemer.search.encoded_texts import unified_in
from bessemer.search.index_build import build_index
from bessemer.search.index_manifest import rollback
from bessemer.search.question_index import Pointer
from bessemer.search.stores.engines import open_engine
from bessemer.types import Collection, Document, Filtered


class _Read(NamedTuple):
    """``choosing``: what the weights of the lanes are chosen on, if they are."""

    encoder: DenseEncoder | CpuEncoder
    corpus: Chunked
    questions: Filtered[Pointer]
    choosing: Collection | None


def index(config: Config) -> Mapping[str, Any]:
    """Index the passages of ``config.data`` or ``config.source`` into ``config.out``; again = only what changed."""
    encoder, corpus, questions, choosing = _read(config)
    used = _encoder_of_passages(config, encoder, corpus.documents)
    to = (config.out, corpus.passages, used, config.model, config.task, config.index.engine)
    stats = build_index(*to, questions=questions.kept)
    fusion = tune_index(config.out, used, choosing) if choosing else None
    return {
        "out": config.out,
        **plain(stats),
        "dropped": len(corpus.dropped),
        "over_windows": used.n_over_windows if isinstance(used, LateChunkedEncoder) else 0,
        "truncated": used.n_truncated["passage"],
        "asked_passages": len({passage_id for _, passage_id in questions.kept}),
        "questions_dropped": dict(Counter(item.reason for item in questions.dropped)),
        "fusion": fusion,
        "questions_truncated": used.n_truncated["query"],
    }


def plan_index(config: Config, *, rollback: bool = False) -> dict[str, Any]:
    """What it would take. Nothing is written."""
    if rollback:
        return plan_of([step_of("rollback")], out=config.out)
    encoder, corpus, questions, _ = _read(config)
    asked = list(dict.fromkeys(query for query, _ in questions.kept))
    embeddings = config.workspace_folder / "embeddings" if _is_cached(config, encoder) else None
    return plan_of([encoding_step("index", encoder, corpus.passages, asked, embeddings)], out=config.out)


def _read(config: Config) -> _Read:
    require_one_input(config)
    require_outside(config)
    if config.index.late_chunking and config.source is None:
        raise ConfigError("--late-chunking reads passages in their documents; give --source, or leave it out")
    encoder = open_search_encoder(config, config.model)
    if config.index.late_chunking and isinstance(encoder, CpuEncoder):
        raise ConfigError(f"--late-chunking: {config.model} is a CPU build; give the model that it was made from")
    if config.task and config.task not in encoder.task_prompts:
        known = ", ".join(encoder.task_prompts) or "none"
        raise ConfigError(f"--task {config.task}: {config.model} was not trained with prompts for it; it has: {known}")
    collection = open_collection(config).collection if config.data else None
    if collection:
        corpus = Chunked((), collection.passages, ())
    else:
        corpus = prepare_corpus(config, encoder.count_tokens, passage_tokens(config, encoder))
    choosing = fusion_collection(config)
    judged = [found for found in (collection, choosing) if found]
    return _Read(encoder, corpus, questions_for_index(config, corpus, judged), choosing)


def _encoder_of_passages(
    config: Config, encoder: DenseEncoder | CpuEncoder, documents: Sequence[Document]
) -> CachedEncoder | DenseEncoder | CpuEncoder | LateChunkedEncoder:
    if config.index.late_chunking:
        assert not isinstance(encoder, CpuEncoder)
        return LateChunkedEncoder(encoder, documents)
    is_cached = _is_cached(config, encoder)
    return CachedEncoder(encoder, config.workspace_folder / "embeddings") if is_cached else encoder


def _is_cached(config: Config, encoder: DenseEncoder | CpuEncoder) -> bool:
    """The cache keeps dense vectors alone, of passages without their documents."""
    return not config.index.late_chunking and unified_in(encoder) is None


def rollback_index(config: Config) -> Mapping[str, Any]:
    """Search the generation that the last change of the model left behind, in the index at ``config.out``."""
    restored = rollback(open_engine(config.out))
    return {"out": config.out, **{key: restored[key] for key in ("model", "task", "created", "n_passages")}}
