"""A searchable index on disk: exact lanes, fused by RRF, stamped with the model's fingerprint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.errors import ConfigError
from bessemer.recipes.data import open_collection, open_search_encoder, passage_tokens, require_one_input
from bessemer.recipes.index_questions import questions_for_index
from bessemer.recipes.output import plain
from bessemer.recipes.prepare import Chunked, prepare_corpus
from bessemer.search.encoded_texts import unified_in
from bessemer.search.index_build import build_index
from bessemer.search.index_manifest import rollback
from bessemer.search.stores.engines import open_engine


def index(config: Config) -> Mapping[str, Any]:
    """Index the passages of ``config.data`` or ``config.source`` into ``config.out``; again = only what changed."""
    require_one_input(config)
    encoder = open_search_encoder(config, config.model)
    if config.task and config.task not in encoder.task_prompts:
        known = ", ".join(encoder.task_prompts) or "none"
        raise ConfigError(f"--task {config.task}: {config.model} was not trained with prompts for it; it has: {known}")
    collection = open_collection(config).collection if config.data else None
    if collection:
        corpus = Chunked((), collection.passages, ())
    else:
        corpus = prepare_corpus(config, encoder.count_tokens, passage_tokens(config, encoder))
    questions = questions_for_index(config, corpus.documents, corpus.passages, collection)
    is_unified = unified_in(encoder) is not None  # the cache keeps dense vectors alone
    used = encoder if is_unified else CachedEncoder(encoder, config.workspace_folder / "embeddings")
    to = (config.out, corpus.passages, used, config.model, config.task, config.index.engine)
    stats = build_index(*to, questions=questions.kept)
    return {
        "out": config.out,
        **plain(stats),
        "dropped": len(corpus.dropped),
        "truncated": used.n_truncated["passage"],
        "questions_dropped": dict(Counter(item.reason for item in questions.dropped)),
        "questions_truncated": used.n_truncated["query"],
    }


def rollback_index(config: Config) -> Mapping[str, Any]:
    """Search the generation that the last change of the model left behind, in the index at ``config.out``."""
    restored = rollback(open_engine(config.out))
    return {"out": config.out, **{key: restored[key] for key in ("model", "task", "created", "n_passages")}}
