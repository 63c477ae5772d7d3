"""BM25 and TF-IDF over our own term weights. ``bm25s`` and scikit-learn are the references in the tests."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.search.analyzer import analyze
from bessemer.search.lexical import LexicalIndex

__all__ = ["BM25", "TfIdf", "analyze"]

K1 = 1.5
B = 0.75


def term_weights(counts: NDArray[np.float64], lengths: NDArray[np.float64], mean_length: float) -> NDArray[np.float64]:
    """``tf / (tf + k1 * (1 - b + b * dl / avgdl))``, of terms that occur ``counts`` times in passages of ``lengths``:
    BM25 in Lucene's form (Robertson and Zaragoza 2009; Kamphuis et al. 2020 on the variants)."""
    return counts / (counts + K1 * (1 - B + B * lengths / mean_length))


def idf(n_passages: int, frequency: NDArray[np.int64]) -> NDArray[np.float64]:
    """``ln(1 + (N - df + .5) / (df + .5))``."""
    return np.log1p((n_passages - frequency + 0.5) / (frequency + 0.5))


class BM25(LexicalIndex):
    """BM25 with k1 = 1.5 and b = 0.75."""

    name = "bm25"

    @staticmethod
    def weigh(counts: sp.csr_array, lengths: NDArray[np.float64]) -> tuple[sp.csr_array, NDArray[np.float64]]:
        """`term_weights` in the passage, `idf` on the query side: a new df leaves the passages as they are."""
        mean_length = lengths.mean() if lengths.any() else 1.0
        weights = counts.copy()
        weights.data = term_weights(counts.data, lengths[counts.indices], mean_length)
        return weights, idf(len(lengths), np.diff(counts.indptr))


class TfIdf(LexicalIndex):
    """Cosine of TF-IDF vectors: the second lexical baseline."""

    name = "tfidf"
    unit_queries = True

    @staticmethod
    def weigh(counts: sp.csr_array, lengths: NDArray[np.float64]) -> tuple[sp.csr_array, NDArray[np.float64]]:
        """``tf * (ln((1 + N) / (1 + df)) + 1)`` on both sides, at unit length: the score is the cosine."""
        frequency = np.diff(counts.indptr)
        idf = np.log((1 + len(lengths)) / (1 + frequency)) + 1
        weights = counts.copy()
        weights.data = counts.data * np.repeat(idf, frequency)
        norms = np.sqrt(np.bincount(weights.indices, weights.data**2, minlength=len(lengths)))
        weights.data /= norms[weights.indices]
        return weights, idf
