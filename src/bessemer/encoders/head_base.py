"""What a model must be to carry a sparse and a multi-vector head."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules import Router, Transformer

from bessemer.errors import ConfigError

N_PROBED = 6
"""Tokens that tell a causal transformer from one that looks both ways."""


def refuse_unfit(first: Any, name: str) -> None:
    """Raise ConfigError unless ``first``, a model's first module, is a transformer whose tokens see both ways."""
    if isinstance(first, Router):
        raise ConfigError(
            f"{name}: a tower for queries and one for passages have no common token states for sparse and multi-vector "
            "heads; remove the head files to use the towers alone, or take an encoder"
        )
    if not isinstance(first, Transformer):
        raise ConfigError(
            f"{name}: a static model has no token states for sparse and multi-vector heads; take an encoder"
        )
    if is_causal(first):
        raise ConfigError(
            f"{name}: a decoder-only (causal) model: each of its tokens knows only what stands before it, so it gives "
            "no weights and vectors of tokens; take an encoder such as bge-m3 or minilm, or tune this one as dense"
        )


def hidden_size(first: Any) -> int:
    """Numbers per hidden state of a transformer module."""
    return int(first.get_embedding_dimension())


def vocabulary_size(first: Any) -> int:
    """Rows of its token embeddings: every token id is below it."""
    return int(first.model.get_input_embeddings().num_embeddings)


def n_positions(first: Any) -> int | None:
    """The most tokens that it can tell the places of; None where it names no limit."""
    found = getattr(first.config, "max_position_embeddings", None)
    if found is None or found < 1:
        return None
    # RoBERTa-like models begin counting positions after their padding id
    return int(found) - int(first._infer_flatten_position_offset())


def special_ids(first: Any) -> list[int]:
    """The ids of the tokenizer's special tokens: cls, sep or eos, pad, unk, mask, and others that it names."""
    return sorted(set(map(int, first.tokenizer.all_special_ids)))


def is_causal(first: Transformer) -> bool:
    """Whether the first token's state is the same whatever the last token is. Asked of the model itself: configurations
    have many ways to say it."""
    one, other = vocabulary_size(first) // 3, vocabulary_size(first) // 2
    input_ids = torch.full((2, N_PROBED), one, device=next(first.parameters()).device)
    input_ids[1, -1] = other
    was_training = first.training
    first.eval()
    with torch.inference_mode():
        states = first({"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)})["token_embeddings"]
    first.train(was_training)
    return torch.allclose(states[0, 0], states[1, 0], rtol=1e-4, atol=1e-5)
