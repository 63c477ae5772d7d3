"""Batches of texts for encoding, as large as memory allows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.runtime import is_out_of_memory, map_batches
from bessemer.encoders.tokens import length_batches
from bessemer.errors import BessemerError

logger = logging.getLogger(__name__)

Rows = NDArray[np.int64]
T = TypeVar("T")


class MemoryBatches:
    """Batches of at most ``max_tokens`` padded tokens. What does not fit into memory is halved, and what follows."""

    def __init__(self, name: str, max_tokens: int) -> None:
        """``name``: of the model, for messages."""
        self._name = name
        self._max_tokens = max_tokens

    def map(self, compute: Callable[[Rows], T], lengths: Sequence[int], device: str) -> Iterator[tuple[Rows, T]]:
        """Rows of texts of similar length, the longest first, and what ``compute`` makes of them. Raises BessemerError
        where a single text does not fit."""
        batches = list(length_batches(lengths, self._max_tokens))
        for parts in map_batches(partial(self._parts, compute, lengths), batches, device):
            yield from parts

    def _parts(self, compute: Callable[[Rows], T], lengths: Sequence[int], rows: Rows) -> list[tuple[Rows, T]]:
        n_tokens = len(rows) * lengths[rows[0]]
        if len(rows) == 1 or n_tokens <= self._max_tokens:
            try:
                return [(rows, compute(rows))]
            except RuntimeError as error:
                self._halve(error, len(rows), n_tokens)
        middle = len(rows) // 2  # not within `except`: the error holds what the failed pass had in memory
        return [*self._parts(compute, lengths, rows[:middle]), *self._parts(compute, lengths, rows[middle:])]

    def _halve(self, error: RuntimeError, n_texts: int, n_tokens: int) -> None:
        """After a batch of so many padded tokens has met ``error``, which is raised unless memory was too little."""
        if not is_out_of_memory(error):
            raise error
        if n_texts == 1:
            message = f"{self._name}: out of memory even with one text of {n_tokens} tokens"
            raise BessemerError(f"{message}; give a smaller --max-length, or more memory") from error
        if n_tokens // 2 < self._max_tokens:
            self._max_tokens = n_tokens // 2
            logger.warning(
                "%s: out of memory: encoding in batches of %d tokens from here on", self._name, n_tokens // 2
            )
