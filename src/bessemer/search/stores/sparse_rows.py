"""Rows of a sparse matrix as lists of indices and values, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

Entries = tuple[list[int], list[float]]


def row_of(matrix: sp.csr_array, row: int) -> Entries:
    """The entries of one row that are not 0, indices rising; those of one index added up."""
    some = slice(matrix.indptr[row], matrix.indptr[row + 1])
    indices, values = matrix.indices[some], matrix.data[some]
    if not (np.diff(indices) > 0).all():
        indices, places = np.unique(indices, return_inverse=True)
        values = np.bincount(places, values).astype(np.float32)
    kept = values != 0
    return indices[kept].tolist(), values[kept].tolist()


def rows_of(entries: Sequence[Entries]) -> sp.csr_array:
    """As wide as the largest index needs: of 2^31 columns, each conversion would allocate one number per column."""
    indptr = np.cumsum([0, *(len(indices) for indices, _ in entries)])
    indices = np.array([index for row, _ in entries for index in row], dtype=np.int64)
    values = np.array([value for _, row in entries for value in row], dtype=np.float32)
    return sp.csr_array((values, indices, indptr), shape=(len(entries), int(indices.max(initial=0)) + 1))
