"""A searchable index on disk: exact lanes, fused by RRF, stamped with the model's fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ConfigError
from bessemer.recipes.data import open_collection, open_encoder, passage_tokens, require_one_input
from bessemer.recipes.output import plain
from bessemer.recipes.prepare import prepare_corpus
from bessemer.search.index_build import build_index
from bessemer.search.index_manifest import rollback
from bessemer.search.stores.engines import open_engine
from bessemer.types import Passage


def index(config: Config) -> Mapping[str, Any]:
    """Index the passages of ``config.data`` or ``config.source`` into ``config.out``; again = only what changed."""
    require_one_input(config)
    encoder = open_encoder(config, config.model)
    if config.task and config.task not in encoder.task_prompts:
        known = ", ".join(encoder.task_prompts) or "none"
        raise ConfigError(f"--task {config.task}: {config.model} was not trained with prompts for it; it has: {known}")
    passages: Sequence[Passage]
    n_dropped = 0
    if config.data:
        passages = open_collection(config).collection.passages
    else:
        corpus = prepare_corpus(config, encoder.count_tokens, passage_tokens(config, encoder))
        passages, n_dropped = corpus.kept, len(corpus.dropped)
    is_unified = isinstance(encoder, UnifiedEncoder)  # the cache keeps dense vectors alone
    used = encoder if is_unified else CachedEncoder(encoder, config.workspace_folder / "embeddings")
    stats = build_index(config.out, passages, used, config.model, config.task, config.index.engine)
    return {"out": config.out, **plain(stats), "dropped": n_dropped, "truncated": used.n_truncated["passage"]}


def rollback_index(config: Config) -> Mapping[str, Any]:
    """Search the generation that the last change of the model left behind, in the index at ``config.out``."""
    restored = rollback(open_engine(config.out))
    return {"out": config.out, **{key: restored[key] for key in ("model", "task", "created", "n_passages")}}
