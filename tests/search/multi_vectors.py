"""Random multi-vectors and sparse rows, and the naive formulas that every search is held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from bessemer.encoders.token_vectors import TokenVectors


def random_vectors(lengths: Sequence[int], seed: int = 0, dimension: int = 8) -> TokenVectors:
    """Unit vectors; text i has ``lengths[i]`` of them."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((sum(lengths), dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    return TokenVectors(rows, offsets, rng.integers(0, 50, len(rows)).astype(np.int32))


def naive_max_sim(queries: TokenVectors, passages: TokenVectors) -> np.ndarray:
    """Four nested loops in Python floats: queries, passages, tokens of the one, tokens of the other."""
    scores = np.zeros((len(queries), len(passages)))
    for i in range(len(queries)):
        for j in range(len(passages)):
            total, query = 0.0, queries.floats(i, i + 1).tolist()
            for token in query:
                products = [
                    sum(a * b for a, b in zip(token, other, strict=True))
                    for other in passages.floats(j, j + 1).tolist()
                ]
                total += max(products, default=0.0)
            scores[i, j] = total / len(query) if query else 0.0
    return scores


def random_rows(n: int, vocabulary: int, seed: int = 0, share: float = 0.2) -> sp.csr_array:
    """(n, vocabulary) weights above zero, some rows empty."""
    rng = np.random.default_rng(seed)
    held = rng.random((n, vocabulary)) < share * rng.integers(0, 3, (n, 1))
    return sp.csr_array((held * rng.random((n, vocabulary)).astype(np.float32)).astype(np.float32))
