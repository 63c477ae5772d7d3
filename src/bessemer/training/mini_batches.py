"""Texts to model inputs of bounded size: mini-batches sorted by length, so that little is padded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

log = logging.getLogger("bessemer")

Features = dict[str, Tensor]
Side = Literal["query", "passage"]

LEAST_TOKENS = 64
"""Per mini-batch, when memory runs out."""


class Tokenizes(Protocol):
    """The part of an encoder that batches need."""

    def tokenize_counted(self, texts: Sequence[str], side: Side) -> tuple[list[list[int]], int]: ...
    def features(self, token_ids: Sequence[Sequence[int]], side: Side) -> Features: ...


class MiniBatches:
    """Cuts the texts of a batch into mini-batches of at most ``budget`` padded tokens, and counts tokens.

    ``n_cut``: texts that were longer than the model reads.
    """

    def __init__(self, encoder: Tokenizes, budget: int) -> None:
        self._encoder = encoder
        self.budget = budget
        self.n_tokens = 0
        self.n_padded_tokens = 0
        self.n_cut = 0

    def tokenize(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Token ids per text, cut to what the model reads."""
        token_ids, n_cut = self._encoder.tokenize_counted(texts, side)
        self.n_cut += n_cut
        return token_ids

    def notes(self) -> tuple[str, ...]:
        """For the training report."""
        return (f"{self.n_cut} texts are longer than the model reads; the rest of them was cut",) if self.n_cut else ()

    def __call__(self, token_ids: Sequence[Sequence[int]], side: Side) -> dict[str, Any]:
        """``features`` of each mini-batch; every distinct text is in one of them, once. ``order[i]`` is the row of the
        i-th text in their concatenation."""
        by_length = sorted(dict.fromkeys(map(tuple, token_ids)), key=lambda ids: -len(ids))
        features = []
        for texts in _cut(by_length, self.budget):
            features.append(self._encoder.features(texts, side))
            self.n_tokens += sum(len(ids) for ids in texts)
            self.n_padded_tokens += int(features[-1]["input_ids"].numel())
        row = {ids: i for i, ids in enumerate(by_length)}
        return {"features": features, "order": torch.tensor([row[tuple(ids)] for ids in token_ids])}

    def halve(self) -> bool:
        """Half the budget, where that leaves room for a text; the memory was not enough for more."""
        if self.budget < 2 * LEAST_TOKENS:
            return False
        self.budget //= 2
        log.warning("out of memory: mini-batches of %d tokens from here on", self.budget)
        return True


def _cut(texts: Sequence[Sequence[int]], budget: int) -> list[Sequence[Sequence[int]]]:
    """Runs of texts, longest first, whose padded size stays within the token budget (one text at least)."""
    cuts, start = [], 0
    for i in range(1, len(texts) + 1):
        full = i < len(texts) and (i - start + 1) * len(texts[start]) > budget
        if i == len(texts) or full:
            cuts.append(texts[start:i])
            start = i
    return cuts
