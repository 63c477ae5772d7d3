"""Sparse rows side by side: an engine that keeps entries alone gives rows as wide as their largest token id, a model as
wide as its vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import scipy.sparse as sp


def widened(matrix: sp.csr_array, width: int) -> sp.csr_array:
    """The same rows, ``width`` wide; shares their memory."""
    parts = (matrix.data, matrix.indices, matrix.indptr)
    return matrix if matrix.shape[1] == width else sp.csr_array(parts, shape=(matrix.shape[0], width))


def stacked(matrices: Sequence[sp.csr_array]) -> sp.csr_array:
    """All rows after one another, as wide as the widest; at least one matrix."""
    width = max(matrix.shape[1] for matrix in matrices)
    return sp.vstack([widened(matrix, width) for matrix in matrices], format="csr")
