"""Exact nearest neighbours by blocked matrix products: the reference for every engine, and what evaluation uses.

The product is numpy's and the selection torch's: on two CPU cores each was the faster of the two (docs/log.md). Blocks
are long on the side of the passages, so that few partial rankings are to be joined. Two steps make the result the same
for every block size, on every machine:

1. blocks of float32 scores keep, per query, the best ``k + MARGIN`` candidates so far;
2. the candidates' scores are computed again in float64 (rounded to float32 once) and sorted by score, then priority.

The first step may mis-order scores that differ by less than float32 rounding. Where the k-th score is that close to
the last candidate's, more passages than the margin may tie for the last places (copies of one text, say): such a
query is scored against all passages in float64, so that ties at the edge are decided by priority as well.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MARGIN = 16
_ROUNDING = 1e-5  # relative to |query| * |passage|; float32 products of width 384 stay below 1e-6

Scores = NDArray[np.float32]
Indices = NDArray[np.int64]


def top_k(
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    k: int,
    *,
    priority: NDArray[np.int64] | None = None,
    longest: float | None = None,
    query_block: int = 256,
    passage_block: int = 65_536,
) -> tuple[Scores, Indices]:
    """The ``k`` largest dot products of each query: (Q, k) scores and (Q, k) passage rows, best first.

    ``queries`` (Q, d) and ``passages`` (N, d) may be memory maps; k is cut to N. Equal scores: lower ``priority``
    first (default: lower row). ``longest``: `longest_norm` of the passages, where it is known already. Memory above the
    inputs and the result is a few times ``4 * query_block * passage_block`` bytes.
    Raises ValueError on shapes that do not fit and on NaN or infinite input.
    """
    if queries.ndim != 2 or passages.ndim != 2 or queries.shape[1] != passages.shape[1]:
        raise ValueError(f"queries {queries.shape} and passages {passages.shape} must be (Q, d) and (N, d)")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    n_queries, n_passages = len(queries), len(passages)
    k = min(k, n_passages)
    priority = np.arange(n_passages) if priority is None else priority
    blocks = [slice(start, start + passage_block) for start in range(0, n_passages, passage_block)]
    longest = longest_norm(passages) if longest is None else longest
    scores = np.empty((n_queries, k), dtype=np.float32)
    indices = np.empty((n_queries, k), dtype=np.int64)
    for start in range(0, n_queries, query_block):
        some = np.asarray(queries[start : start + query_block], dtype=np.float32)
        noise = _ROUNDING * longest_norm(some, "queries") * longest
        if k == 0:
            continue
        candidates = _candidates(some, passages, min(k + MARGIN, n_passages), blocks)
        for row, (query, found) in enumerate(zip(some, candidates, strict=True), start=start):
            exact = _exact_scores(query, passages[found])
            if len(found) < n_passages and _tied_at_the_edge(exact, k, noise):
                found = np.arange(n_passages)
                exact = np.concatenate([_exact_scores(query, passages[block]) for block in blocks])
            order = np.lexsort((priority[found], -exact))[:k]
            scores[row], indices[row] = exact[order], found[order]
    return scores, indices


def _candidates(queries: Scores, passages: Scores, m: int, blocks: list[slice]) -> Indices:
    """(Q, m) the rows of the m best passages per query, unordered, as far as float32 products tell."""
    import torch  # here, since `compare` imports this file and never searches

    best = torch.empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.long)
    for block in blocks:
        scores = torch.from_numpy(queries @ np.asarray(passages[block], dtype=np.float32).T)
        found, columns = scores.topk(min(m, scores.shape[1]), dim=1, sorted=False)
        best, rows = torch.cat([best, found], dim=1), torch.cat([rows, columns + block.start], dim=1)
        if best.shape[1] > m:
            best, kept = best.topk(m, dim=1, sorted=False)
            rows = rows.gather(1, kept)
    return rows.numpy()


def _exact_scores(query: Scores, passages: Scores) -> Scores:
    """(n,) dot products in float64, rounded once: the same for a passage wherever it stands."""
    products: NDArray[np.float64] = np.einsum("nd,d->n", passages.astype(np.float64), query.astype(np.float64))
    return products.astype(np.float32)


def _tied_at_the_edge(scores: Scores, k: int, noise: float) -> bool:
    """Whether a passage that is no candidate may score as much as the k-th candidate."""
    kth = np.partition(scores, -k)[-k]
    return bool(kth - scores.min() <= noise)


def longest_norm(vectors: Scores, name: str = "passages") -> float:
    """The largest L2 norm of the rows; 0 without rows. Raises ValueError on NaN or infinite values."""
    longest = 0.0
    for start in range(0, len(vectors), 8192):
        block = vectors[start : start + 8192]
        if not np.isfinite(block).all():
            raise ValueError(f"{name} hold NaN or infinite values; the model or file that they come from is broken")
        longest = max(longest, float(np.einsum("nd,nd->n", block, block, dtype=np.float64).max()))
    return math.sqrt(longest)
