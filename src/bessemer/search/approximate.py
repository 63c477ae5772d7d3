"""Which passages may be among the k best of a query, told from scores that are cheap and off by a known bound.

Blocks of scores, in bf16 where the CPU multiplies it and in float32 elsewhere, are held against a floor per query that
rises from block to block. With q' and p' the rounded vectors,

    |q.p - q'.p'| <= |q - q'| |p| + |q'| |p - p'|,

and a float32 sum of d products is off by at most d 2^-24 |q'| |p'| (Higham 2002, Accuracy and Stability of Numerical
Algorithms, section 3.1). Rounding to bf16 keeps the order, so a score below a floor that is a bf16 number itself stood
below it before it was rounded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from bessemer.encoders.runtime import has_native_bf16

SAMPLE = 2048
"""Passages of which the first floor is made."""
FIRST_BLOCK, GROWTH = 8192, 4
"""Short blocks first, while the floor is low: few passages come in that it will throw out."""
BF16_FROM = 64
"""Queries from which the faster product saves more than it costs to round the passages."""
ROUNDING = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}

Scores = NDArray[np.float32]
Indices = NDArray[np.int64]


def candidates(
    queries: Scores, passages: Scores, k: int, *, longest: float, residual: float, block: int, most: int
) -> tuple[Indices, Indices] | None:
    """(C,) rows of ``queries`` (Q, d), rising, and as many rows of ``passages`` (N, d): for every query all passages
    whose score may be one of its ``k`` best, or tie with them; k <= N. None where they are more than ``most``.

    ``longest`` is the largest norm of a passage, ``residual`` at least what rounding to bf16 takes away from one.
    ``block`` passages are held against the queries at once; more of them, where the queries are few.
    """
    block *= max(1, BF16_FROM // len(queries))
    product = _Product(queries, min(max(block, SAMPLE), len(passages)), longest, residual)
    floor = product.floor(_kth_largest(product.sampled(passages[:SAMPLE]), k))
    rows = columns = np.empty(0, dtype=np.int64)
    scores = np.empty(0, dtype=np.float32)
    for part in _growing(len(passages), block):
        of_query, within, found = product.at_least(floor, passages[part])
        if len(rows) + len(found) > most:
            return None
        order = np.argsort(np.concatenate([rows, of_query]), kind="stable")
        rows, columns, scores = (
            np.concatenate(pair)[order] for pair in ((rows, of_query), (columns, within + part.start), (scores, found))
        )
        floor = product.floor(_kth_largest(_table(rows, scores, len(queries)), k))
        kept = scores >= floor[rows]
        rows, columns, scores = rows[kept], columns[kept], scores[kept]
    return rows, columns


def bf16_residual(passages: Scores) -> float:
    """The largest norm of what rounding a row of ``passages`` (N, d) to bf16 takes away; 0 where no bf16 is used."""
    largest = 0.0
    for start in range(0, len(passages) if has_native_bf16("cpu") else 0, 8192):
        block = _tensor(passages[start : start + 8192])
        largest = max(largest, float((block - block.bfloat16()).norm(dim=1).max()))
    return largest


class _Product:
    """Scores of some queries with one block of passages after the other, in memory that is used again."""

    def __init__(self, queries: Scores, longest_block: int, longest: float, residual: float) -> None:
        n, width = queries.shape
        is_bf16 = n >= BF16_FROM and has_native_bf16("cpu")
        self._dtype = torch.bfloat16 if is_bf16 else torch.float32
        exact = _tensor(queries)
        self._queries = exact.to(self._dtype)
        self._columns = (self._queries if n > 1 else self._queries.repeat(2, 1)).T
        self._rounded = torch.empty(longest_block, width, dtype=self._dtype) if is_bf16 else None
        self._scores = torch.empty(max(n, 2) * longest_block, dtype=self._dtype)
        self._reached = np.empty(n * longest_block, dtype=np.bool_)
        norms, lost = exact.norm(dim=1), (exact - self._queries).norm(dim=1)
        of_sum = width * ROUNDING[torch.float32] * (norms + lost) * (longest + residual)
        of_vectors = lost * longest + (norms + lost) * residual if is_bf16 else torch.zeros(n)
        self._error = of_vectors + of_sum

    def floor(self, kth: Scores) -> Scores:
        """(Q,) what the scores that may reach the k-th largest reach at least, as numbers of their own precision."""
        values = torch.from_numpy(kth)
        exact = values - values.abs() * ROUNDING[self._dtype] - 2 * self._error
        rounded = exact.to(self._dtype)
        below = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
        return torch.where(rounded > exact, below, rounded).float().numpy()

    def sampled(self, passages: Scores) -> Scores:
        """(Q, n) the scores with ``passages`` (n, d)."""
        return self._of(passages).float().numpy()

    def at_least(self, floor: Scores, passages: Scores) -> tuple[Indices, Indices, Scores]:
        """Query, passage and score, query by query, where the score with ``passages`` (n, d) reaches ``floor``."""
        scores = self._of(passages)
        reached = self._reached[: scores.numel()].reshape(scores.shape)
        np.greater_equal(*_ordered_alike(scores, torch.from_numpy(floor)[:, None].to(self._dtype)), out=reached)
        positions = np.flatnonzero(reached)
        of_query, within = np.divmod(positions, len(passages))
        return of_query, within, scores[torch.from_numpy(of_query), torch.from_numpy(within)].float().numpy()

    def _of(self, passages: Scores) -> torch.Tensor:
        """(Q, n). For few queries the passages stand on the left, where they are read once and as fast as memory gives
        them; a lone query stands there twice, as the product with a vector takes three times as long."""
        n = len(self._queries)
        if self._rounded is not None:
            block = self._rounded[: len(passages)].copy_(_tensor(passages))
            return torch.mm(self._queries, block.T, out=self._scores[: n * len(block)].view(n, -1))
        scores = self._scores[: self._columns.shape[1] * len(passages)].view(len(passages), -1)
        return torch.mm(_tensor(passages), self._columns, out=scores)[:, :n].T


def _ordered_alike(scores: torch.Tensor, floor: torch.Tensor) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """For numpy, which has no bf16: against a floor above zero, the bits of a bf16 compare as a 16-bit integer does."""
    if scores.dtype == torch.bfloat16 and bool((floor > 0).all()):
        return scores.view(torch.int16).numpy(), floor.view(torch.int16).numpy()
    return scores.float().numpy(), floor.float().numpy()


def _growing(n: int, longest: int) -> Iterator[slice]:
    start, length = 0, min(FIRST_BLOCK, longest)
    while start < n:
        yield slice(start, min(start + length, n))
        start, length = start + length, min(length * GROWTH, longest)


def _table(rows: Indices, scores: Scores, n_rows: int) -> Scores:
    """(n_rows, m) the scores of every row, from the left, then -inf; ``rows`` are sorted."""
    starts = np.searchsorted(rows, np.arange(n_rows + 1))
    table = np.full((n_rows, int(np.diff(starts).max(initial=0))), -np.inf, dtype=np.float32)
    table[rows, np.arange(len(rows)) - starts[rows]] = scores
    return table


def _kth_largest(table: Scores, k: int) -> Scores:
    """(Q,) of every row of (Q, m); -inf where there are fewer than k."""
    n, m = table.shape
    return np.partition(table, m - k, axis=1)[:, m - k] if m >= k else np.full(n, -np.inf, dtype=np.float32)


def _tensor(vectors: Scores) -> torch.Tensor:
    """Without a copy, also of a memory map that must not be written to: nothing here does."""
    return from_dlpack(vectors)
