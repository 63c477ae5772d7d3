"""The tokenizer of a sentence-transformers model, as ours."""

from __future__ import annotations

from typing import Any

from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from bessemer.encoders.head_base import vocabulary_size
from bessemer.encoders.tokens import Lengths, TextTokenizer
from bessemer.errors import ConfigError

_NO_LIMIT = 10**9  # transformers writes 1e30 where a tokenizer names no limit


def model_tokenizer(module: Any, name: str) -> TextTokenizer:
    """Of ``module``, the first one of a model. Raises ConfigError without a fast tokenizer."""
    if isinstance(module, StaticEmbedding):
        truncation = module.tokenizer.truncation or {}
        limit = truncation.get("max_length")
        cut_side = truncation.get("direction", "right")
        return TextTokenizer(module.tokenizer, Lengths(limit, limit), cut_side=cut_side, is_static=True)
    tokenizer = module.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(f"{name}: has no fast tokenizer (tokenizer.json); convert it with transformers first")
    _refuse_misfit(module, backend, name)
    limit = module.max_seq_length
    limit = limit if limit is not None and limit < _NO_LIMIT else None
    return TextTokenizer(
        backend,
        Lengths(module.query_length or limit, module.document_length or limit),
        pad_id=tokenizer.pad_token_id or 0,
        padding_side=tokenizer.padding_side,
        cut_side=tokenizer.truncation_side,
    )


def _refuse_misfit(module: Any, backend: Any, name: str) -> None:
    """Without its files transformers makes a tokenizer that knows special tokens alone: every word is unknown."""
    ids = backend.get_vocab(with_added_tokens=False)
    if ids.keys() <= set(module.tokenizer.all_special_tokens):
        raise ConfigError(
            f"{name}: its tokenizer knows no words: tokenizer.json (or vocab.txt) is missing or empty; copy the whole "
            "model folder"
        )
    n_rows = vocabulary_size(module)
    if max(ids.values()) >= n_rows:
        raise ConfigError(
            f"{name}: its tokenizer knows ids up to {max(ids.values())}, its embeddings have {n_rows} rows; give "
            "tokenizer and weights of one model"
        )
