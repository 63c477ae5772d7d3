"""The passages of a generation that are live, joined and ready to be searched: built at the first search of a lane and
kept until the next write."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.encoders.token_vectors import TokenVectors, joined
from bessemer.search.exact import ExactSearch
from bessemer.search.postings import Postings
from bessemer.search.ranking import tie_priority
from bessemer.search.stores.filters import DOC_ID, holds
from bessemer.search.stores.segment import Rows, Segment
from bessemer.search.stores.store import Filter
from bessemer.types import Hits

if TYPE_CHECKING:
    from bessemer.search.max_sim import MaxSim

_FILTERED = 4  # filters of late whose passages stay joined
_SMALL_VOCABULARY = 1 << 24

M = TypeVar("M", NDArray[np.float32], sp.csr_array)
P = TypeVar("P")


class LiveRows:
    """``parts``: segments, each with the rows of it that are meant."""

    def __init__(self, parts: Sequence[tuple[Segment, Rows]]) -> None:
        self.parts = [(segment, rows) for segment, rows in parts if len(rows)]
        self.passage_ids = [segment.passage_ids[row] for segment, rows in self.parts for row in rows.tolist()]
        self._filtered: dict[Hashable, LiveRows] = {}

    def where(self, conditions: Filter) -> LiveRows:
        """Those that meet ``conditions``."""
        if not conditions:
            return self
        conditions = tuple(conditions)
        key = tuple((each, *(type(value) for value in each.values)) for each in conditions)  # 1 == True, and no match
        if key not in self._filtered:
            kept = []
            for (segment, rows), known in zip(self.parts, self._metadata, strict=True):
                mask = [holds(doc_id, metadata, conditions) for doc_id, metadata in known]
                kept.append((segment, rows[np.array(mask, dtype=bool)]))
            while len(self._filtered) >= _FILTERED:
                del self._filtered[next(iter(self._filtered))]
            self._filtered[key] = LiveRows(kept)
        return self._filtered[key]

    def search_dense(self, queries: NDArray[np.float32], top_k: int) -> list[Hits]:
        if not self.passage_ids:
            return [[] for _ in queries]
        scores, rows = self._dense.top_k(queries, top_k)
        return [self._hits(*found) for found in zip(rows, scores, strict=True)]

    def search_bm25(self, queries: sp.csr_array, top_k: int) -> list[Hits]:
        return self._bm25.search(queries, top_k)

    def search_sparse(self, queries: sp.csr_array, top_k: int) -> list[Hits]:
        return self._sparse.search(queries, top_k)

    def search_multi_vector(self, queries: TokenVectors, top_k: int) -> list[Hits]:
        if not self.passage_ids:
            return [[] for _ in range(len(queries))]
        return [self._hits(*found) for found in self._multi_vector.top_k(queries, top_k)]

    @cached_property
    def _priority(self) -> NDArray[np.int64]:
        return tie_priority(self.passage_ids)

    @cached_property
    def _metadata(self) -> list[list[tuple[str, dict[str, object]]]]:
        """Of every part (doc_id, metadata), read once."""
        values = ([segment.values(row) for row in rows.tolist()] for segment, rows in self.parts)
        return [[(each[DOC_ID], each["metadata"]) for each in part] for part in values]

    @cached_property
    def _dense(self) -> ExactSearch:
        vectors = [_rows_of(_given(segment.encoded.dense), rows) for segment, rows in self.parts]
        return ExactSearch(vectors[0] if len(vectors) == 1 else np.concatenate(vectors), priority=self._priority)

    @cached_property
    def _bm25(self) -> TermSearch:
        return TermSearch(self.passage_ids, [_rows_of(s.bm25, rows) for s, rows in self.parts], self._priority)

    @cached_property
    def _sparse(self) -> TermSearch:
        matrices = [_rows_of(_given(segment.encoded.sparse), rows) for segment, rows in self.parts]
        return TermSearch(self.passage_ids, matrices, self._priority)

    @cached_property
    def _multi_vector(self) -> MaxSim:
        from bessemer.search.max_sim import MaxSim  # torch: only where multi-vectors are searched

        vectors = [(_given(segment.encoded.multi_vector), rows) for segment, rows in self.parts]
        parts = [one if len(rows) == len(one) else one.of(rows) for one, rows in vectors]
        return MaxSim(parts[0] if len(parts) == 1 else joined(parts), priority=self._priority)

    def _hits(self, rows: Rows, scores: NDArray[np.float32]) -> Hits:
        return [(self.passage_ids[row], score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]


class TermSearch:
    """Postings whose term ids may be any below 2^31: only those that occur have a row."""

    def __init__(
        self, passage_ids: Sequence[str], matrices: Sequence[sp.csr_array], priority: NDArray[np.int64]
    ) -> None:
        rows = sp.vstack(matrices, format="csr") if matrices else sp.csr_array((0, 0), dtype=np.float32)
        self._terms, columns = _distinct(rows.indices)
        weights = sp.csr_array((rows.data, columns, rows.indptr), shape=(rows.shape[0], len(self._terms)))
        self._postings = Postings(passage_ids, weights.T.tocsr(), priority)

    def search(self, queries: sp.csr_array, top_k: int) -> list[Hits]:
        """Terms of a query that no passage has are left out."""
        places = np.searchsorted(self._terms, queries.indices)
        known = places < len(self._terms)
        known[known] = self._terms[places[known]] == queries.indices[known]
        before = np.concatenate([[0], np.cumsum(known)])
        entries = (queries.data[known], places[known], before[queries.indptr])
        return self._postings.search(sp.csr_array(entries, shape=(queries.shape[0], len(self._terms))), top_k)


def _distinct(ids: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct ids, rising, and the place of each of ``ids`` among them; without sorting where ids are small."""
    if not len(ids) or ids.max() >= _SMALL_VOCABULARY:
        distinct, places = np.unique(ids, return_inverse=True)
        return distinct.astype(np.int64), places
    occurs = np.zeros(int(ids.max()) + 1, dtype=bool)
    occurs[ids] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[ids]


def _rows_of(matrix: M, rows: Rows) -> M:
    """Without a copy where all are meant."""
    return matrix if len(rows) == matrix.shape[0] else matrix[rows]


def _given(part: P | None) -> P:
    if part is None:
        raise ValueError("this generation has no such vectors")
    return part
