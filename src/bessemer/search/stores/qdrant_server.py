"""A Qdrant server or cluster, through qdrant-client."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.errors import ConfigError
from bessemer.search.stores.addresses import KEY_VARIABLE, parse_address
from bessemer.search.stores.chunked_contents import Records
from bessemer.search.stores.cluster import ClusterEngine
from bessemer.search.stores.failures import asking, package
from bessemer.search.stores.lease import lease
from bessemer.search.stores.passage_fields import point_id
from bessemer.search.stores.qdrant_filters import EQUAL
from bessemer.search.stores.qdrant_store import DENSE, TOKENS, Payload, Point, QdrantStore, vectors_by_name
from bessemer.search.stores.store import Layout
from bessemer.types import Hits

SCHEME, PORT = "qdrant", 6333
_AT_ONCE = 250  # points of one request
_REQUEST_BYTES = 16 << 20  # of one request, as far as it can be told before: servers take 32 MiB by default
_NUMBER_BYTES = 24  # of one number in JSON, at most
_MANY = 1_000_000
_SECONDS = 60


def open_qdrant(location: str) -> ClusterEngine:
    """``qdrant://host:port/NAME``; the key of the server from the environment variable BESSEMER_STORE_KEY."""
    address = parse_address(location, SCHEME, PORT)
    qdrant = package("qdrant_client", "qdrant")
    with asking("Qdrant", location):
        key = os.environ.get(KEY_VARIABLE)
        client = qdrant.QdrantClient(url=address.url, api_key=key, timeout=_SECONDS)
        return qdrant_engine(location, address.name, client)


def qdrant_engine(location: str, index: str, client: Any) -> ClusterEngine:
    """For a ``client`` that is open: also one of Qdrant's local mode, which tests use."""
    return ClusterEngine(SCHEME, location, index, QdrantCluster(client, location), lease)


class QdrantCluster:
    """See `bessemer.search.stores.cluster.Cluster`."""

    def __init__(self, client: Any, location: str) -> None:
        self._client = client
        self._location = location
        self._models = package("qdrant_client.models", "qdrant")

    def create(self, collection: str, layout: Layout) -> None:
        models = self._models
        dense = {DENSE: models.VectorParams(size=layout.dimension, distance=models.Distance.DOT)}
        if layout.token_dimension is not None:
            half = models.Datatype.FLOAT16 if layout.token_precision == "float16" else models.Datatype.FLOAT32
            dense[TOKENS] = models.VectorParams(
                size=layout.token_dimension,
                distance=models.Distance.DOT,
                datatype=half,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            )
        names = ["bm25", *(["sparse"] if layout.has_sparse else [])]
        with self._asking():
            self._client.create_collection(
                collection,
                vectors_config=dense,
                sparse_vectors_config={name: models.SparseVectorParams() for name in names},
                hnsw_config=models.HnswConfigDiff(m=0),  # no graph of neighbours: the search is exact
            )
            self._client.create_payload_index(collection, EQUAL, models.PayloadSchemaType.KEYWORD)

    def drop(self, collection: str) -> None:
        with self._asking():
            self._client.delete_collection(collection)

    def collections(self) -> list[str]:
        with self._asking():
            return [found.name for found in self._client.get_collections().collections]

    def point_alias(self, alias: str, collection: str) -> None:
        models = self._models
        new = models.CreateAlias(collection_name=collection, alias_name=alias)
        operations = [models.CreateAliasOperation(create_alias=new)]
        with self._asking():
            if any(found.alias_name == alias for found in self._client.get_aliases().aliases):
                old = models.DeleteAlias(alias_name=alias)
                operations.insert(0, models.DeleteAliasOperation(delete_alias=old))
            self._client.update_collection_aliases(change_aliases_operations=operations)

    def finish(self, collection: str) -> None:
        """A server optimises by itself."""

    def store(self, collection: str, layout: Layout) -> QdrantStore:
        return QdrantStore(ServerPoints(self._client, collection, self._location), layout, lambda: None)

    def records(self, collection: str) -> Records:
        with self._asking():
            if not self._client.collection_exists(collection):
                self._client.create_collection(collection, vectors_config={})
        return QdrantRecords(self._client, collection, self._location)

    def close(self) -> None:
        with self._asking():
            self._client.close()

    def _asking(self) -> AbstractContextManager[None]:
        return asking("Qdrant", self._location)


class ServerPoints:
    """See `bessemer.search.stores.qdrant_store.Points`. Every write waits until the server has applied it."""

    def __init__(self, client: Any, collection: str, location: str) -> None:
        self._client = client
        self._collection = collection
        self._location = location
        self.models = package("qdrant_client.models", "qdrant")
        self._exact = self.models.SearchParams(exact=True)

    def write(self, points: Sequence[Point]) -> None:
        struct = self.models.PointStruct
        with self._asking():
            for some in _requests(points):
                given = [struct(id=point, payload=payload, vector=self._vectors(v)) for point, payload, v in some]
                self._client.upsert(self._collection, given, wait=True)

    def remove(self, ids: Sequence[str]) -> None:
        with self._asking():
            for some in _parts(ids):
                selected = self.models.PointIdsList(points=list(some))
                self._client.delete(self._collection, selected, wait=True)

    def replace_vector(self, name: str, vectors: Mapping[str, Any]) -> None:
        full = [(point, entries) for point, entries in vectors.items() if len(entries[0])]
        emptied = [point for point, entries in vectors.items() if not len(entries[0])]
        with self._asking():
            for some in _parts(full):
                new = [self.models.PointVectors(id=p, vector=self._vectors({name: entries})) for p, entries in some]
                self._client.update_vectors(self._collection, new, wait=True)
            for some in _parts(emptied):
                self._client.delete_vectors(self._collection, vectors=[name], points=list(some), wait=True)

    def index(self, field: str) -> None:
        with self._asking():
            self._client.create_payload_index(self._collection, field, self.models.PayloadSchemaType.KEYWORD)

    def nearest(self, name: str, query: Any, limit: int, where: Any) -> Hits:
        with self._asking():
            found = self._client.query_points(
                self._collection,
                query=self._vector(query),
                using=name,
                query_filter=where,
                limit=limit,
                search_params=self._exact,
                with_payload=["passage_id"],
            )
        return [(point.payload["passage_id"], point.score) for point in found.points]

    def read(self, ids: Sequence[str], payload: Sequence[str], vectors: Sequence[str]) -> list[Point]:
        with self._asking():
            records = self._client.retrieve(
                self._collection, list(ids), with_payload=list(payload), with_vectors=list(vectors) or False
            )
        return [(str(record.id), record.payload, vectors_by_name(record.vector)) for record in records]

    def read_all(self, payload: Sequence[str], batch_size: int) -> Iterator[list[Payload]]:
        offset = None
        while True:
            with self._asking():
                records, offset = self._client.scroll(
                    self._collection, limit=batch_size, offset=offset, with_payload=list(payload), with_vectors=False
                )
            if records:
                yield [record.payload for record in records]
            if offset is None:
                return

    def values_of(self, field: str) -> list[str]:
        self.index(field)  # a field that no passage has yet
        with self._asking():
            found = self._client.facet(self._collection, field, limit=_MANY, exact=True)
        return [hit.value for hit in found.hits]

    def count(self, where: Any) -> int:
        with self._asking():
            return int(self._client.count(self._collection, count_filter=where, exact=True).count)

    def stats(self) -> Mapping[str, Any]:
        return {"bytes": None}

    def snapshot(self, folder: Path) -> None:
        raise ConfigError(
            f"{self._location}: snapshots of a Qdrant server are made there (POST /collections/.../snapshots)"
        )

    def _vectors(self, vectors: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._vector(vector) for name, vector in vectors.items()}

    def _vector(self, vector: Any) -> Any:
        if isinstance(vector, tuple):
            return self.models.SparseVector(indices=vector[0], values=vector[1])
        return vector.tolist()

    def _asking(self) -> AbstractContextManager[None]:
        return asking("Qdrant", self._location)


class QdrantRecords:
    """See `bessemer.search.stores.chunked_contents.Records`: points without vectors."""

    def __init__(self, client: Any, collection: str, location: str) -> None:
        self._client = client
        self._collection = collection
        self._location = location
        self._models = package("qdrant_client.models", "qdrant")

    def put(self, records: Mapping[str, str]) -> None:
        points = [
            self._models.PointStruct(id=point_id(key), payload={"key": key, "text": text}, vector={})
            for key, text in records.items()
        ]
        with asking("Qdrant", self._location):
            self._client.upsert(self._collection, points, wait=True)

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        with asking("Qdrant", self._location):
            found = self._client.retrieve(self._collection, [point_id(key) for key in keys], with_payload=True)
        return {record.payload["key"]: record.payload["text"] for record in found}

    def remove(self, keys: Sequence[str]) -> None:
        selected = self._models.PointIdsList(points=[point_id(key) for key in keys])
        with asking("Qdrant", self._location):
            self._client.delete(self._collection, selected, wait=True)


def _parts(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]


def _requests(points: Sequence[Point]) -> Iterator[list[Point]]:
    """A point that is too large goes alone: the server says what it takes."""
    some: list[Point] = []
    room = _REQUEST_BYTES
    for point in points:
        size = _json_bytes(point)
        if some and (len(some) == _AT_ONCE or size > room):
            yield some
            some, room = [], _REQUEST_BYTES
        some.append(point)
        room -= size
    if some:
        yield some


def _json_bytes(point: Point) -> int:
    """At most so many."""
    _, payload, vectors = point
    numbers = sum(2 * len(each[0]) if isinstance(each, tuple) else np.size(each) for each in vectors.values())
    return len(json.dumps(payload)) + _NUMBER_BYTES * numbers
