"""One generation in Milvus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.errors import ConfigError
from bessemer.search.stores.best_hits import best_of
from bessemer.search.stores.check import check_stored
from bessemer.search.stores.chunked_contents import Records, read_contents, remove_contents, write_contents
from bessemer.search.stores.failures import asking
from bessemer.search.stores.milvus_rows import (
    DENSE,
    KEY,
    PASSAGE,
    PASSAGE_ID,
    Row,
    expression,
    rows_to_write,
    sparse_entries,
    sparse_value,
)
from bessemer.search.stores.passage_fields import TEXT_HASH, check_same_passages, in_order, passage_of, point_id
from bessemer.search.stores.sparse_rows import row_of, rows_of
from bessemer.search.stores.store import Filter, Layout, SparseLane, Stored
from bessemer.search.stores.token_fields import as_bytes, from_bytes, join_or_none
from bessemer.types import Hits, Passage

MOST_HITS = 16_384
SECONDS = 60.0  # without a limit the client tries for minutes when the server is gone
_AT_ONCE = 1000


class MilvusStore:
    """See `bessemer.search.stores.store.VectorStore`. Multi-vectors are contents of ``tokens``, as Milvus has neither
    bytes nor texts long enough: they are read for ranking again, and not searched."""

    def __init__(self, client: Any, collection: str, layout: Layout, tokens: Records | None, location: str) -> None:
        self.layout = layout
        self._client = client
        self._collection = collection
        self._tokens = tokens
        self._location = location

    def upsert(self, batch: Stored) -> None:
        check_stored(batch, self.layout)
        rows = rows_to_write(batch, self.layout)
        if not rows:
            return
        given = {row[KEY]: row[PASSAGE_ID] for row in rows}
        check_same_passages(given, {row[KEY]: row[PASSAGE_ID] for row in self._rows(list(given), [PASSAGE_ID])})
        if self._tokens is not None and batch.encoded.multi_vector is not None:
            vectors = batch.encoded.multi_vector
            write_contents(self._tokens, {row[KEY]: as_bytes(vectors, number) for number, row in enumerate(rows)})
        with self._asking():
            self._client.upsert(self._collection, rows, timeout=SECONDS)

    def delete(self, passage_ids: Sequence[str]) -> None:
        keys = [point_id(passage_id) for passage_id in passage_ids]
        with self._asking():
            for some in _parts(keys):
                self._client.delete(self._collection, ids=some, timeout=SECONDS)
        if self._tokens is not None:
            remove_contents(self._tokens, keys)

    def rewrite_bm25(self, passage_ids: Sequence[str], weights: sp.csr_array) -> None:
        self._read(passage_ids, [PASSAGE_ID])
        new = [
            {KEY: point_id(passage_id), "bm25": sparse_value(*row_of(weights, row))}
            for row, passage_id in enumerate(passage_ids)
        ]
        with self._asking():
            for some in _parts(new):
                self._client.upsert(self._collection, some, partial_update=True, timeout=SECONDS)

    def search_dense(self, queries: NDArray[np.float32], top_k: int, where: Filter = ()) -> list[Hits]:
        return [self._nearest(DENSE, query, top_k, where) for query in queries]

    def search_sparse(self, lane: SparseLane, queries: sp.csr_array, top_k: int, where: Filter = ()) -> list[Hits]:
        if lane == "sparse" and not self.layout.has_sparse:
            raise ValueError("this generation has no sparse vectors")
        rows = [row_of(queries, row) for row in range(queries.shape[0])]
        found = [self._nearest(lane, sparse_value(*row), top_k, where) if row[0] else [] for row in rows]
        return [[hit for hit in hits if hit[1] > 0] for hits in found]

    def search_multi_vector(self, queries: TokenVectors, top_k: int, where: Filter = ()) -> list[Hits]:
        raise ConfigError(f"{self._location}: Milvus ranks again by multi-vectors, it does not search them")

    def token_vectors(self, passage_ids: Sequence[str]) -> TokenVectors:
        if self._tokens is None or self.layout.token_dimension is None:
            raise ConfigError(f"{self._location}: holds no multi-vectors; index with a unified model")
        dimension, precision = self.layout.token_dimension, self.layout.token_precision
        keys = [point_id(passage_id) for passage_id in passage_ids]
        contents = in_order(passage_ids, read_contents(self._tokens, keys, self._location))
        return join_or_none([from_bytes(one, dimension, precision) for one in contents], dimension, precision)

    def passages(self, passage_ids: Sequence[str]) -> list[Passage]:
        return [passage_of(row[PASSAGE]) for row in self._read(passage_ids, [PASSAGE])]

    def all_passages(self, batch_size: int = 1024) -> Iterator[list[Passage]]:
        for rows in self._pages([PASSAGE], batch_size):
            yield [passage_of(row[PASSAGE]) for row in rows]

    def vectors(self, passage_ids: Sequence[str]) -> Encoded:
        """Sparse rows are as wide as the largest id needs."""
        lanes = ["sparse"] if self.layout.has_sparse else []
        rows = self._read(passage_ids, [DENSE, *lanes])
        dense = np.array([row[DENSE] for row in rows], dtype=np.float32).reshape(len(rows), self.layout.dimension)
        sparse = rows_of([sparse_entries(row["sparse"]) for row in rows]) if lanes else None
        return Encoded(dense, sparse, None if self.layout.token_dimension is None else self.token_vectors(passage_ids))

    def text_hashes(self) -> Mapping[str, str]:
        pages = self._pages([PASSAGE_ID, TEXT_HASH], 10 * _AT_ONCE)
        return {row[PASSAGE_ID]: row[TEXT_HASH] for rows in pages for row in rows}

    def count(self, where: Filter = ()) -> int:
        with self._asking():
            found = self._client.query(
                self._collection, filter=expression(where), output_fields=["count(*)"], timeout=SECONDS
            )
        return int(found[0]["count(*)"])

    def stats(self) -> Mapping[str, Any]:
        return {"passages": self.count(), "bytes": None}

    def snapshot(self, folder: Path) -> None:
        raise ConfigError(f"{self._location}: snapshots of Milvus are made by its own tools (milvus-backup)")

    def close(self) -> None:
        """The engine holds the connection."""

    def _nearest(self, column: str, query: Any, top_k: int, where: Filter) -> Hits:
        if top_k > MOST_HITS:
            raise ConfigError(f"top_k {top_k}: Milvus gives {MOST_HITS:,} hits at most; ask for fewer")

        def fetch(limit: int) -> Hits:
            with self._asking():
                found = self._client.search(
                    self._collection,
                    data=[query],
                    anns_field=column,
                    limit=limit,
                    filter=expression(where),
                    output_fields=[PASSAGE_ID],
                    search_params={"metric_type": "IP"},
                    timeout=SECONDS,
                )
            return [(hit["entity"][PASSAGE_ID], float(hit["distance"])) for hit in found[0]]

        return best_of(fetch, top_k, MOST_HITS)

    def _read(self, passage_ids: Sequence[str], columns: list[str]) -> list[Row]:
        """In the order given. Raises KeyError for a passage that is not there."""
        found = {row[KEY]: row for row in self._rows([point_id(passage_id) for passage_id in passage_ids], columns)}
        return in_order(passage_ids, found)

    def _rows(self, keys: list[str], columns: list[str]) -> list[Row]:
        with self._asking():
            return [
                row
                for some in _parts(keys)
                for row in self._client.query(
                    self._collection, ids=some, output_fields=[KEY, *columns], timeout=SECONDS
                )
            ]

    def _pages(self, columns: list[str], batch_size: int) -> Iterator[list[Row]]:
        with self._asking():
            pages = self._client.query_iterator(
                self._collection, batch_size=batch_size, output_fields=columns, timeout=SECONDS
            )
            try:
                while rows := pages.next():
                    yield list(rows)
            finally:
                pages.close()

    def _asking(self) -> Any:
        return asking("Milvus", self._location)


def _parts(items: Sequence[Any]) -> list[list[Any]]:
    return [list(items[start : start + _AT_ONCE]) for start in range(0, len(items), _AT_ONCE)]
