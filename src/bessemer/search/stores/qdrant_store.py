"""One generation in Qdrant, whichever way its points are reached: embedded or through a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.errors import ConfigError
from bessemer.search.stores.best_hits import best_of
from bessemer.search.stores.check import check_stored
from bessemer.search.stores.filter_keys import filter_keys
from bessemer.search.stores.passage_fields import (
    KEPT,
    TEXT_HASH,
    check_integers,
    check_same_passages,
    fields_of,
    in_order,
    passage_of,
    point_id,
)
from bessemer.search.stores.qdrant_filters import EQUAL, NUMBERS, TEXTS, qdrant_filter
from bessemer.search.stores.sparse_rows import row_of, rows_of
from bessemer.search.stores.store import Filter, Layout, SparseLane, Stored
from bessemer.search.stores.token_fields import from_floats, join_or_none, side_fields
from bessemer.types import Hits, Passage

DENSE, TOKENS = "dense", "tokens"
_TOKEN_FIELDS = ["token_ids", "scales"]
_AT_ONCE = 1000

Payload = dict[str, Any]
Vectors = dict[str, Any]
Point = tuple[str, Payload, Vectors]
"""id, payload, vectors by name; those of a sparse one as (indices, values)."""


class Points(Protocol):
    """The few things that a generation asks of Qdrant. What is written is on disk upon return."""

    models: Any

    def write(self, points: Sequence[Point]) -> None: ...

    def remove(self, ids: Sequence[str]) -> None: ...

    def replace_vector(self, name: str, vectors: Mapping[str, Any]) -> None: ...

    def index(self, field: str) -> None:
        """A keyword index; no error where it is there."""
        ...

    def nearest(self, name: str, query: Any, limit: int, where: Any) -> Hits:
        """By passage id, the best first, exactly."""
        ...

    def read(self, ids: Sequence[str], payload: Sequence[str], vectors: Sequence[str]) -> Iterable[Point]:
        """Those that are there, in any order."""
        ...

    def read_all(self, payload: Sequence[str], batch_size: int) -> Iterator[list[Payload]]: ...

    def values_of(self, field: str) -> list[str]:
        """The distinct ones of an indexed field."""
        ...

    def count(self, where: Any) -> int: ...

    def stats(self) -> Mapping[str, Any]: ...

    def snapshot(self, folder: Path) -> None: ...


class QdrantStore:
    """See `bessemer.search.stores.store.VectorStore`."""

    def __init__(self, points: Points, layout: Layout, close: Callable[[], None]) -> None:
        self.layout = layout
        self._points = points
        self._close = close
        self._indexed: set[str] = set()

    def upsert(self, batch: Stored) -> None:
        check_stored(batch, self.layout)
        check_integers(batch.passages)
        if not batch.passages:
            return
        given = {point_id(passage.passage_id): passage.passage_id for passage in batch.passages}
        there = self._points.read(list(given), ["passage_id"], [])
        check_same_passages(given, {point: payload["passage_id"] for point, payload, _ in there})
        points = [self._point(batch, row) for row in range(len(batch.passages))]
        self._index({EQUAL, *(f"{TEXTS}.{field}" for _, payload, _ in points for field in payload[TEXTS])})
        self._points.write(points)

    def delete(self, passage_ids: Sequence[str]) -> None:
        if passage_ids:
            self._points.remove([point_id(passage_id) for passage_id in passage_ids])

    def rewrite_bm25(self, passage_ids: Sequence[str], weights: sp.csr_array) -> None:
        self._read(passage_ids, ["passage_id"], [])
        points = map(point_id, passage_ids)
        if passage_ids:
            self._points.replace_vector("bm25", {point: row_of(weights, row) for row, point in enumerate(points)})

    def search_dense(self, queries: NDArray[np.float32], top_k: int, where: Filter = ()) -> list[Hits]:
        return self._search(DENSE, queries, top_k, where)

    def search_sparse(self, lane: SparseLane, queries: sp.csr_array, top_k: int, where: Filter = ()) -> list[Hits]:
        if lane == "sparse" and not self.layout.has_sparse:
            raise ValueError("this generation has no sparse vectors")
        rows = [row_of(queries, row) for row in range(queries.shape[0])]
        found = self._search(lane, [row for row in rows if len(row[0])], top_k, where)
        given = iter([[hit for hit in hits if hit[1] > 0] for hits in found])
        return [next(given) if len(row[0]) else [] for row in rows]

    def search_multi_vector(self, queries: TokenVectors, top_k: int, where: Filter = ()) -> list[Hits]:
        """Qdrant adds up over the query's tokens; here the mean counts, so that queries compare."""
        self._token_layout()
        rows = [queries.floats(text, text + 1) for text in range(len(queries))]
        found = iter(self._search(TOKENS, [row for row in rows if len(row)], top_k, where))
        return [[(key, score / len(row)) for key, score in next(found)] if len(row) else [] for row in rows]

    def token_vectors(self, passage_ids: Sequence[str]) -> TokenVectors:
        dimension = self._token_layout()
        points = self._read(passage_ids, _TOKEN_FIELDS, [TOKENS])
        return self._tokens_of(points, dimension)

    def passages(self, passage_ids: Sequence[str]) -> list[Passage]:
        return [passage_of(payload) for payload, _ in self._read(passage_ids, KEPT, [])]

    def all_passages(self, batch_size: int = 1024) -> Iterator[list[Passage]]:
        for payloads in self._points.read_all(KEPT, batch_size):
            yield [passage_of(payload) for payload in payloads]

    def vectors(self, passage_ids: Sequence[str]) -> Encoded:
        """Sparse rows are as wide as the largest id needs."""
        names = [DENSE, *(["sparse"] if self.layout.has_sparse else [])]
        dimension = self.layout.token_dimension
        points = self._read(passage_ids, _TOKEN_FIELDS, [*names, *([TOKENS] if dimension is not None else [])])
        dense = np.array([vectors[DENSE] for _, vectors in points], dtype=np.float32)
        sparse = [vectors.get("sparse", ([], [])) for _, vectors in points]
        return Encoded(
            dense.reshape(len(points), self.layout.dimension),
            rows_of(sparse) if self.layout.has_sparse else None,
            None if dimension is None else self._tokens_of(points, dimension),
        )

    def text_hashes(self) -> Mapping[str, str]:
        pages = self._points.read_all(["passage_id", TEXT_HASH], 10 * _AT_ONCE)
        return {payload["passage_id"]: payload[TEXT_HASH] for page in pages for payload in page}

    def count(self, where: Filter = ()) -> int:
        return self._points.count(self._filter(where))

    def stats(self) -> Mapping[str, Any]:
        return {"passages": self.count(), **self._points.stats()}

    def snapshot(self, folder: Path) -> None:
        self._points.snapshot(folder)

    def close(self) -> None:
        self._close()

    def _point(self, batch: Stored, row: int) -> Point:
        passage, encoded = batch.passages[row], batch.encoded
        keys = filter_keys(passage)
        payload = fields_of(passage, batch.text_hashes[row])
        payload |= {EQUAL: keys.equal, NUMBERS: keys.numbers, TEXTS: keys.texts}
        assert encoded.dense is not None
        vectors: Vectors = {DENSE: encoded.dense[row]}
        for name, matrix in (("bm25", batch.bm25), ("sparse", encoded.sparse)):
            if matrix is not None and len((entries := row_of(matrix, row))[0]):
                vectors[name] = entries
        if encoded.multi_vector is not None:
            payload |= side_fields(encoded.multi_vector, row)
            tokens = encoded.multi_vector.floats(row, row + 1)
            vectors[TOKENS] = tokens if len(tokens) else np.zeros((1, tokens.shape[1]), dtype=np.float32)
        return point_id(passage.passage_id), payload, vectors

    def _index(self, fields: set[str]) -> None:
        for field in fields - self._indexed:
            self._points.index(field)
        self._indexed |= fields

    def _search(self, name: str, queries: Sequence[Any] | NDArray[Any], top_k: int, where: Filter) -> list[Hits]:
        chosen = self._filter(where)

        def best(query: Any) -> Hits:
            return best_of(lambda limit: self._points.nearest(name, query, limit, chosen), top_k)

        return [best(query) for query in queries]

    def _filter(self, where: Filter) -> Any:
        return qdrant_filter(where, self._points.models, self._points.values_of)

    def _read(
        self, passage_ids: Sequence[str], payload: Sequence[str], vectors: Sequence[str]
    ) -> list[tuple[Payload, Vectors]]:
        """In the order given. Raises KeyError for a passage that is not there."""
        found: dict[str, tuple[Payload, Vectors]] = {}
        for start in range(0, len(passage_ids), _AT_ONCE):
            ids = [point_id(passage_id) for passage_id in passage_ids[start : start + _AT_ONCE]]
            found |= {point: (fields, by_name) for point, fields, by_name in self._points.read(ids, payload, vectors)}
        return in_order(passage_ids, found)

    def _token_layout(self) -> int:
        if self.layout.token_dimension is None:
            raise ConfigError("this index holds no multi-vectors; index with a unified model")
        return self.layout.token_dimension

    def _tokens_of(self, points: Sequence[tuple[Payload, Vectors]], dimension: int) -> TokenVectors:
        parts = [
            from_floats(np.array(vectors[TOKENS], dtype=np.float32), fields, self.layout.token_precision)
            for fields, vectors in points
        ]
        return join_or_none(parts, dimension, self.layout.token_precision)


def vectors_by_name(vectors: Mapping[str, Any] | None) -> Vectors:
    """What Qdrant gives, as a `Point` has it."""
    return {
        name: (vector.indices, vector.values) if hasattr(vector, "indices") else vector
        for name, vector in (vectors or {}).items()
    }
