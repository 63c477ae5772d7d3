"""What a unified model gives for one batch, in the form in which it is kept, and many batches put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded, Output
from bessemer.encoders.token_vectors import Precision, TokenVectors


@dataclass(frozen=True, slots=True)
class BatchOutputs:
    """Outputs of one batch; those that were not asked for are None. ``n_pruned``: sparse weights cut away;
    ``n_bad``: texts with a number that is not finite."""

    dense: NDArray[np.float32] | None
    sparse: sp.csr_array | None
    multi_vector: TokenVectors | None
    n_pruned: int
    n_bad: int


def sparse_rows(
    weights: NDArray[np.float32], token_ids: NDArray[np.int64], vocabulary_size: int, top_weights: int
) -> tuple[sp.csr_array, int]:
    """Weights (n, L) of tokens (n, L) to rows (n, vocabulary), a repeated token by its largest weight, the
    ``top_weights`` strongest of each row; and how many were cut away. Of equal weights the lower id stays."""
    rows, columns = np.nonzero(weights)
    values, ids = weights[rows, columns], token_ids[rows, columns]
    order = np.lexsort((-values, ids, rows))
    rows, ids, values = rows[order], ids[order], values[order]
    is_largest = np.ones(len(rows), dtype=bool)
    is_largest[1:] = (rows[1:] != rows[:-1]) | (ids[1:] != ids[:-1])
    rows, ids, values = rows[is_largest], ids[is_largest], values[is_largest]
    n_distinct = len(rows)
    if np.bincount(rows).max(initial=0) > top_weights:
        by_weight = np.lexsort((-values, rows))  # stable: ids still rise where weights are equal
        starts = np.searchsorted(rows, rows)
        kept = np.sort(by_weight[np.arange(n_distinct) - starts < top_weights])
        rows, ids, values = rows[kept], ids[kept], values[kept]
    indptr = np.searchsorted(rows, np.arange(len(weights) + 1))
    return sp.csr_array((values, ids, indptr), shape=(len(weights), vocabulary_size)), n_distinct - len(rows)


def outputs_of_nothing(
    outputs: Sequence[Output], dimension: int, vocabulary_size: int, multi_vector_dimension: int, precision: Precision
) -> BatchOutputs:
    """The outputs of no text, which have the shapes of those of some."""
    none = np.empty(0, dtype=np.int64)
    vectors = np.empty((0, multi_vector_dimension), dtype=np.float32)
    sparse: Any = sp.csr_array((0, vocabulary_size), dtype=np.float32)
    return BatchOutputs(
        dense=np.empty((0, dimension), dtype=np.float32) if "dense" in outputs else None,
        sparse=sparse if "sparse" in outputs else None,
        multi_vector=kept_vectors(vectors, none, none, precision) if "multi_vector" in outputs else None,
        n_pruned=0,
        n_bad=0,
    )


@dataclass
class OutputsInOrder:
    """Gathers the batches of ``n_texts`` texts, which come in any order."""

    n_texts: int
    n_bad: int = 0
    n_pruned: int = 0
    _dense: NDArray[np.float32] | None = None
    _sparse: list[tuple[NDArray[np.int64], sp.csr_array]] = field(default_factory=list)
    _multi_vector: list[tuple[NDArray[np.int64], TokenVectors]] = field(default_factory=list)

    def put(self, rows: NDArray[np.int64], batch: BatchOutputs) -> None:
        """Take the outputs of the texts ``rows``."""
        self.n_bad += batch.n_bad
        self.n_pruned += batch.n_pruned
        if batch.dense is not None:
            if self._dense is None:
                self._dense = np.zeros((self.n_texts, batch.dense.shape[1]), dtype=np.float32)
            self._dense[rows] = batch.dense
        if batch.sparse is not None:
            self._sparse.append((rows, batch.sparse))
        if batch.multi_vector is not None:
            self._multi_vector.append((rows, batch.multi_vector))

    def encoded(self) -> Encoded:
        """All in the order of the texts. Empties this."""
        sparse = _sparse_in_order(self._sparse) if self._sparse else None
        multi_vector = _vectors_in_order(self._multi_vector, self.n_texts) if self._multi_vector else None
        return Encoded(self._dense, sparse, multi_vector)


def _sparse_in_order(parts: Sequence[tuple[NDArray[np.int64], sp.csr_array]]) -> sp.csr_array:
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return sp.csr_array(sp.vstack([part for _, part in parts], format="csr")[order])


def _vectors_in_order(parts: list[tuple[NDArray[np.int64], TokenVectors]], n_texts: int) -> TokenVectors:
    """Empties ``parts`` while it fills the result: the vectors are never all there twice."""
    first = parts[0][1]
    lengths = np.zeros(n_texts, dtype=np.int64)
    for texts, part in parts:
        lengths[texts] = np.diff(part.offsets)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows: NDArray[Any] = np.empty((offsets[-1], first.dimension), dtype=first.rows.dtype)
    token_ids = np.empty(offsets[-1], dtype=np.int32)
    scales = None if first.scales is None else np.empty(offsets[-1], dtype=np.float32)
    while parts:
        texts, part = parts.pop()
        shift = np.repeat(offsets[texts] - part.offsets[:-1], np.diff(part.offsets))
        where = shift + np.arange(len(shift))
        rows[where], token_ids[where] = part.rows, part.token_ids
        if scales is not None:
            scales[where] = part.scales
    return TokenVectors(rows, offsets, token_ids, first.precision, scales)


def kept_vectors(
    vectors: NDArray[np.float32], token_ids: NDArray[np.int64], lengths: NDArray[np.int64], precision: Precision
) -> TokenVectors:
    """Vectors (T, m) of tokens (T,), ``lengths`` (n,) of them per text, as they are kept."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenVectors(vectors, offsets, token_ids.astype(np.int32)).stored_as(precision)
