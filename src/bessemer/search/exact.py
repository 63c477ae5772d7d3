"""Exact nearest neighbours by matrix products: the reference for every engine, and what evaluation uses.

Two steps make the result the same for every block size, on every machine:

1. fast products tell which passages may be among the k best of a query, ties with the last of them included
   (`bessemer.search.approximate`);
2. their scores are computed again in float64 (rounded to float32 once) and sorted by score, then priority.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MOST_CANDIDATES = 1 << 23
"""Of one block of queries. Where there are more (copies of one text without end, say), the block is halved."""
RESCORED_AT_ONCE = 4096

Scores = NDArray[np.float32]
Indices = NDArray[np.int64]


class ExactSearch:
    """The largest dot products with ``passages`` (N, d), float32, possibly a memory map.

    Equal scores: lower ``priority`` first (default: lower row). Raises ValueError on NaN or infinite values.
    """

    def __init__(self, passages: Scores, *, priority: Indices | None = None) -> None:
        if passages.ndim != 2:
            raise ValueError(f"passages must be (N, d), not {passages.shape}")
        self.passages = passages
        self._priority = np.arange(len(passages)) if priority is None else priority
        self._longest = _longest_norm(passages, "passages")

    @cached_property
    def _residual(self) -> float:
        from bessemer.search.approximate import bf16_residual

        return bf16_residual(self.passages)

    def top_k(
        self, queries: Scores, k: int, *, query_block: int = 512, passage_block: int = 16_384
    ) -> tuple[Scores, Indices]:
        """The ``k`` best passages for ``queries`` (Q, d): (Q, k) scores and (Q, k) rows, best first; k is cut to N.

        Memory above the inputs and the result: about ``5 * query_block * passage_block`` bytes for each of at most
        eight threads. Raises ValueError on shapes that do not fit and on NaN or infinite values.
        """
        if queries.ndim != 2 or queries.shape[1] != self.passages.shape[1]:
            raise ValueError(f"queries must be (Q, d) with the passages' d: {queries.shape}, {self.passages.shape}")
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        _longest_norm(queries, "queries")
        k = min(k, len(self.passages))
        scores = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        if k == 0:
            return scores, rows
        from bessemer.encoders.runtime import map_batches

        blocks = [slice(start, start + query_block) for start in range(0, len(queries), query_block)]
        found = map_batches(lambda some: self._best(queries[some], k, passage_block), blocks, "cpu")
        for some, best in zip(blocks, found, strict=True):
            scores[some], rows[some] = best
        return scores, rows

    def of_candidates(self, queries: Scores, candidates: Sequence[Indices]) -> list[Scores]:
        """For every query (Q, d) its scores with the passages of its rows of ``candidates``, as ``top_k`` has them."""
        return [self._exact_scores(query, rows) for query, rows in zip(queries, candidates, strict=True)]

    def _best(self, queries: Scores, k: int, passage_block: int) -> tuple[Scores, Indices]:
        """`top_k` of one block."""
        from bessemer.search.approximate import candidates  # here: `compare` imports this file and never searches

        found = candidates(
            queries,
            self.passages,
            k,
            longest=self._longest,
            residual=self._residual,
            block=passage_block,
            most=max(MOST_CANDIDATES, len(self.passages)),
        )
        if found is None:
            halves = [self._best(half, k, passage_block) for half in np.array_split(queries, 2)]
            scores, rows = (np.concatenate(part) for part in zip(*halves, strict=True))
            return scores, rows
        of_query, rows = found
        starts = np.searchsorted(of_query, np.arange(len(queries) + 1))
        scores = np.concatenate(self.of_candidates(queries, np.split(rows, starts[1:-1])))
        best = np.lexsort((self._priority[rows], -scores, of_query))[starts[:-1, None] + np.arange(k)]
        return scores[best], rows[best]

    def _exact_scores(self, query: Scores, rows: Indices) -> Scores:
        """(n,) dot products in float64, rounded once: the same for a passage wherever it stands."""
        scores = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), RESCORED_AT_ONCE):
            some = slice(start, start + RESCORED_AT_ONCE)
            scores[some] = np.vecdot(self.passages[rows[some]].astype(np.float64), query.astype(np.float64))
        return scores


def _longest_norm(vectors: Scores, name: str) -> float:
    """The largest L2 norm of the rows; 0 without rows. Raises ValueError on NaN or infinite values."""
    longest = 0.0
    for start in range(0, len(vectors), 8192):
        block = vectors[start : start + 8192]
        if not np.isfinite(block).all():
            raise ValueError(f"{name} hold NaN or infinite values; the model or file that they come from is broken")
        longest = max(longest, float(np.einsum("nd,nd->n", block, block, dtype=np.float64).max()))
    return math.sqrt(longest)
