"""Qdrant embedded in this process, in a folder: the engine of a Qdrant server without the server.

A shard belongs to one process at a time, readers included: Edge locks it. So while a service searches an index, another
process can build a new generation of it, and not change the one that is searched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bessemer.durable import replace_file
from bessemer.errors import ArtifactError, ConfigError, ServiceError
from bessemer.search.stores.failures import asking, package
from bessemer.search.stores.files import FilesEngine
from bessemer.search.stores.generation_names import checked_name
from bessemer.search.stores.qdrant_store import DENSE, TOKENS, Payload, Point, QdrantStore, vectors_by_name
from bessemer.search.stores.store import Layout
from bessemer.search.stores.writing import writing
from bessemer.types import Hits

LAYOUT, SHARD = "layout.json", "shard"
_MANY = 1 << 30
_IN_USE = "WouldBlock"


class QdrantEdgeEngine:
    """See `bessemer.search.stores.store.Engine`. Facts and the lock are files, as those of the exact engine."""

    name = "qdrant-edge"

    def __init__(self, folder: str | Path) -> None:
        self._edge = package("qdrant_edge", "qdrant")
        self._files = FilesEngine(folder)
        self.folder = self._files.folder
        self.location = str(folder)
        self._open: dict[str, tuple[QdrantStore, EdgePoints]] = {}

    def lock(self) -> AbstractContextManager[None]:
        return self._files.lock()

    def create(self, generation: str, layout: Layout) -> QdrantStore:
        self.drop(generation)
        folder = self._folder(generation)
        with writing(self.folder), asking("Qdrant Edge", str(folder)):
            (folder / SHARD).mkdir(parents=True)
            shard = self._edge.EdgeShard.create(str(folder / SHARD), _shard_config(layout, self._edge))
            shard.flush()
            replace_file(folder / LAYOUT, json.dumps(asdict(layout)).encode())
        return self._store(generation, shard, layout)

    def open(self, generation: str) -> QdrantStore:
        if generation in self._open:
            return self._open[generation][0]
        folder = self._folder(generation)
        try:
            layout = Layout(**json.loads((folder / LAYOUT).read_bytes()))
            with asking("Qdrant Edge", str(folder)):
                shard = self._edge.EdgeShard.load(str(folder / SHARD))
        except FileNotFoundError:
            raise ArtifactError(
                f"{self.folder}: no finished index ({generation} is not there); build it again"
            ) from None
        except (OSError, ValueError, TypeError, ServiceError) as error:
            if _IN_USE in str(error):
                raise ConfigError(
                    f"{folder}: is open in another process, and Qdrant Edge serves one at a time; close the other, "
                    "or keep the index in files or in a server"
                ) from None
            raise ArtifactError(f"{self.folder}: the index is damaged ({error}); build it again") from None
        return self._store(generation, shard, layout)

    def drop(self, generation: str) -> None:
        if generation in self._open:
            self._open[generation][0].close()
        folder = self._folder(generation)
        with writing(self.folder):
            (folder / LAYOUT).unlink(missing_ok=True)
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)

    def generations(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(
            path.name for path in self.folder.iterdir() if (path / SHARD).exists() or (path / LAYOUT).exists()
        )

    def switch(self, generation: str) -> None:
        """Nobody searches the folder without us; but now that the generation is whole, what was written in passing is
        packed into segments that open quickly."""
        if generation in self._open:
            self._open[generation][1].pack()

    def read_fact(self, name: str) -> bytes | None:
        return self._files.read_fact(name)

    def write_fact(self, name: str, content: bytes) -> None:
        self._files.write_fact(name, content)

    def close(self) -> None:
        for store, _ in list(self._open.values()):
            store.close()

    def _store(self, generation: str, shard: Any, layout: Layout) -> QdrantStore:
        points = EdgePoints(shard, self._edge, self._folder(generation))

        def close() -> None:
            if self._open.pop(generation, None) is not None:
                points.close()

        store = QdrantStore(points, layout, close)
        self._open[generation] = store, points
        return store

    def _folder(self, generation: str) -> Path:
        return self.folder / checked_name(generation, self.location)


class EdgePoints:
    """See `bessemer.search.stores.qdrant_store.Points`. Every write ends with a flush: until then Edge has it in its
    write-ahead log, of which the disk may not know yet."""

    def __init__(self, shard: Any, edge: Any, folder: Path) -> None:
        self._shard = shard
        self._edge = edge
        self._folder = folder
        self.models = _Models(edge)
        self._exact = edge.SearchParams(exact=True)
        self._passage_id = edge.PayloadSelector.Include(["passage_id"])

    def write(self, points: Sequence[Point]) -> None:
        with self._asking():
            given = [self._edge.Point(point, self._vectors(vectors), payload) for point, payload, vectors in points]
            self._update(self._edge.UpdateOperation.upsert_points(given))

    def remove(self, ids: Sequence[str]) -> None:
        with self._asking():
            self._update(self._edge.UpdateOperation.delete_points(list(ids)))

    def replace_vector(self, name: str, vectors: Mapping[str, Any]) -> None:
        operations = self._edge.UpdateOperation
        full = {point: entries for point, entries in vectors.items() if len(entries[0])}
        emptied = [point for point in vectors if point not in full]
        with self._asking():
            if full:
                changed = [self._edge.PointVectors(p, self._vectors({name: entries})) for p, entries in full.items()]
                self._shard.update(operations.update_vectors(changed))
            if emptied:
                self._shard.update(operations.delete_vectors(emptied, [name]))
            self._shard.flush()

    def index(self, field: str) -> None:
        keyword = self._edge.PayloadSchemaType.Keyword
        with self._asking():
            self._shard.update(self._edge.UpdateOperation.create_field_index(field, keyword))

    def nearest(self, name: str, query: Any, limit: int, where: Any) -> Hits:
        edge = self._edge
        with self._asking():
            found = self._shard.query(
                edge.QueryRequest(
                    limit=limit,
                    query=edge.Query.Nearest(self._vector(query), name),
                    filter=where,
                    params=self._exact,
                    with_payload=self._passage_id,
                )
            )
        return [(point.payload["passage_id"], point.score) for point in found]

    def read(self, ids: Sequence[str], payload: Sequence[str], vectors: Sequence[str]) -> list[Point]:
        with self._asking():
            chosen = self._edge.PayloadSelector.Include(list(payload))
            records = self._shard.retrieve(list(ids), chosen, list(vectors) or False)
        return [(str(record.id), record.payload, vectors_by_name(record.vector)) for record in records]

    def read_all(self, payload: Sequence[str], batch_size: int) -> Iterator[list[Payload]]:
        chosen, offset = self._edge.PayloadSelector.Include(list(payload)), None
        while True:
            request = self._edge.ScrollRequest(limit=batch_size, offset=offset, with_payload=chosen, with_vector=False)
            with self._asking():
                records, offset = self._shard.scroll(request)
            if records:
                yield [record.payload for record in records]
            if offset is None:
                return

    def values_of(self, field: str) -> list[str]:
        self.index(field)  # a field that no passage has yet
        with self._asking():
            found = self._shard.facet(self._edge.FacetRequest(field, limit=_MANY, exact=True))
        return [hit.value for hit in found.hits]

    def count(self, where: Any) -> int:
        with self._asking():
            return int(self._shard.count(self._edge.CountRequest(exact=True, filter=where)))

    def pack(self) -> None:
        with self._asking():
            self._shard.optimize()
            self._shard.flush()

    def stats(self) -> Mapping[str, Any]:
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        return {
            "bytes": sum(path.stat().st_blocks * 512 for path in files),
            "segments": self._shard.info().segments_count,
        }

    def snapshot(self, folder: Path) -> None:
        """An index folder with this generation alone. Nobody may write meanwhile: take the engine's lock."""
        if folder.exists():
            raise ConfigError(f"{folder}: is there already; choose a new folder for the snapshot")
        with writing(folder), self._asking():
            self._shard.flush()
            shutil.copytree(self._folder, folder / self._folder.name)

    def close(self) -> None:
        with suppress(ServiceError), self._asking():
            self._shard.close()

    def _update(self, operation: Any) -> None:
        self._shard.update(operation)
        self._shard.flush()

    def _vectors(self, vectors: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._vector(vector) for name, vector in vectors.items()}

    def _vector(self, vector: Any) -> Any:
        return self._edge.SparseVector(*vector) if isinstance(vector, tuple) else vector

    def _asking(self) -> AbstractContextManager[None]:
        return asking("Qdrant Edge", str(self._folder))


class _Models:
    """The names that the server's client has for the same things."""

    def __init__(self, edge: Any) -> None:
        self.Filter, self.FieldCondition, self.Range = edge.Filter, edge.FieldCondition, edge.RangeFloat
        self.MatchAny = edge.MatchAny


def _shard_config(layout: Layout, edge: Any) -> Any:
    """Without a graph of neighbours (m = 0): the search is exact. Sparse indexes are memory maps: they open faster."""
    dense = {DENSE: edge.EdgeVectorParams(size=layout.dimension, distance=edge.Distance.Dot)}
    if layout.token_dimension is not None:
        types = edge.VectorStorageDatatype
        dense[TOKENS] = edge.EdgeVectorParams(
            size=layout.token_dimension,
            distance=edge.Distance.Dot,
            multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
            datatype=types.Float16 if layout.token_precision == "float16" else types.Float32,
        )
    names = ["bm25", *(["sparse"] if layout.has_sparse else [])]
    return edge.EdgeConfig(
        vectors=dense,
        sparse_vectors={name: edge.EdgeSparseVectorParams(memory=edge.Memory.Cached) for name in names},
        hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=16, full_scan_threshold=10_000),
    )
