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


class BM25(LexicalIndex):
    """BM25 with k1 = 1.5 and b = 0.75."""

    name = "bm25"

    @staticmethod
    def weigh(counts: sp.csr_array, lengths: NDArray[np.float64]) -> tuple[sp.csr_array, NDArray[np.float64]]:
        """BM25 in Lucene's form (Robertson and Zaragoza 2009; Kamphuis et al. 2020 on the variants).

        ``idf = ln(1 + (N - df + .5) / (df + .5))`` stands on the query side, and
        ``tf / (tf + k1 * (1 - b + b * dl / avgdl))`` in the passage: a new df leaves the passages as they are.
        """
        mean_length = lengths.mean() if lengths.any() else 1.0
        saturation = K1 * (1 - B + B * lengths / mean_length)
        weights = counts.copy()
        weights.data = counts.data / (counts.data + saturation[counts.indices])
        frequency = np.diff(counts.indptr)
        return weights, np.log1p((len(lengths) - frequency + 0.5) / (frequency + 0.5))


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
