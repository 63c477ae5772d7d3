"""An inverted index: term weights of all passages as one sparse matrix, searched by a sparse matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.search.ranking import best_hits, tie_priority
from bessemer.types import Hits

_BLOCK_BYTES = 64 << 20  # of one block's sparse scores: 12 bytes per (query, passage) pair that shares a term


class Postings:
    """``weights`` is (V, N), float32: row = term, column = passage. A passage scores the dot product of its column
    with the query's row; what shares no term with the query, or scores no more than 0, is no hit."""

    def __init__(
        self, passage_ids: Sequence[str], weights: sp.csr_array, priority: NDArray[np.int64] | None = None
    ) -> None:
        """``priority``: `tie_priority` of the ids, where it is known."""
        self.passage_ids = list(passage_ids)
        self.weights = weights
        self._priority = tie_priority(self.passage_ids) if priority is None else priority

    def search(self, queries: sp.csr_array, top_k: int) -> list[Hits]:
        """The best passages for every row of ``queries`` (Q, V); none for an empty row. Raises ValueError for
        ``top_k`` below 1."""
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}")
        n_queries = queries.shape[0]
        block = max(1, _BLOCK_BYTES // (12 * max(1, len(self.passage_ids))))
        hits: list[Hits] = []
        for start in range(0, n_queries, block):
            scores = queries[start : start + block] @ self.weights
            for low, high in zip(scores.indptr[:-1], scores.indptr[1:], strict=True):
                hits.append(self._best(scores.indices[low:high], scores.data[low:high], top_k))
        return hits

    def scores(self, queries: sp.csr_array) -> NDArray[np.float32]:
        """(Q, N) of every query with every passage."""
        return np.asarray((queries @ self.weights).toarray(), dtype=np.float32)

    def _best(self, rows: NDArray[np.int32], scores: NDArray[np.float32], top_k: int) -> Hits:
        found = scores > 0
        return best_hits(self.passage_ids, self._priority, rows[found], scores[found], top_k)
