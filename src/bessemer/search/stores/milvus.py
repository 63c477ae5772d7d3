"""Milvus: a Milvus Lite file in a folder, or any Milvus server or cluster by its address."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from bessemer.errors import ConfigError, ServiceError
from bessemer.search.stores.addresses import KEY_VARIABLE, MILVUS_FILE, parse_address
from bessemer.search.stores.chunked_contents import Records
from bessemer.search.stores.cluster import ClusterEngine
from bessemer.search.stores.failures import asking, package
from bessemer.search.stores.files import FilesEngine
from bessemer.search.stores.lease import lease
from bessemer.search.stores.milvus_rows import DENSE, KEY_LENGTH, TEXT_BYTES, schema, sparse_lanes
from bessemer.search.stores.milvus_store import SECONDS, MilvusStore
from bessemer.search.stores.passage_fields import point_id
from bessemer.search.stores.store import Layout

NAME, PORT = "milvus", 19530
INDEX = "bessemer"
_TOKENS = "__tokens"


def open_milvus(location: str) -> ClusterEngine:
    """``milvus://host:port/NAME``; the token of the server from the environment variable BESSEMER_STORE_KEY."""
    address = parse_address(location, NAME, PORT)
    with asking("Milvus", location):
        client = _client(address.url, os.environ.get(KEY_VARIABLE, ""))
        return ClusterEngine(NAME, location, address.name, MilvusCluster(client, location), lease)


def open_milvus_lite(folder: str | Path) -> ClusterEngine:
    """In ``folder``/milvus.db. Milvus Lite serves one process at a time; its server is for more."""
    files = FilesEngine(folder)
    file = files.folder.resolve() / MILVUS_FILE
    lite = package("milvus_lite.server_manager", NAME).server_manager_instance
    if not file.exists():
        with files.lock():  # refuses a folder that holds something else
            file.mkdir()
    url = _in_use.enter(str(file), lite)
    if url is None:
        raise ConfigError(
            f"{file}: cannot be opened. If another process has it open (Milvus Lite serves one at a time), close that "
            "one, or start `milvus-lite server` and give its address; if none has, it is damaged: index again"
        )
    cluster = MilvusCluster(_client(url, ""), str(folder), lambda: _in_use.leave(str(file), lite))
    return ClusterEngine(NAME, str(folder), INDEX, cluster, lambda records, location: files.lock())


class _FilesInUse:
    """Milvus Lite has one server for a file, whoever asks for it, and the first to release it would end it for all."""

    def __init__(self) -> None:
        self._users: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, file: str, lite: Any) -> str | None:
        with self._lock:
            url: str | None = lite.start_and_get_uri(file)
            self._users[file] += url is not None
            return url

    def leave(self, file: str, lite: Any) -> None:
        with self._lock:
            self._users[file] -= 1
            if not self._users[file]:
                lite.release_server(file)


_in_use = _FilesInUse()


class MilvusCluster:
    """See `bessemer.search.stores.cluster.Cluster`."""

    def __init__(self, client: Any, location: str, close: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._location = location
        self._close = close
        self._types = package("pymilvus", NAME).DataType

    def create(self, collection: str, layout: Layout) -> None:
        indexes = self._client.prepare_index_params()
        indexes.add_index(DENSE, index_type="FLAT", metric_type="IP")
        for lane in sparse_lanes(layout):
            indexes.add_index(lane, index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        with self._asking():
            self._make(collection, schema(layout, self._client, self._types), indexes)

    def drop(self, collection: str) -> None:
        with self._asking():
            for name in (collection, collection + _TOKENS):
                if self._client.has_collection(name):
                    for alias in self._client.list_aliases(name).get("aliases", []):
                        self._client.drop_alias(alias)
                    self._client.drop_collection(name)

    def collections(self) -> list[str]:
        with self._asking():
            return [name for name in self._client.list_collections() if not name.endswith(_TOKENS)]

    def point_alias(self, alias: str, collection: str) -> None:
        with self._asking():
            known = any(alias in self._client.list_aliases(name).get("aliases", []) for name in self.collections())
            (self._client.alter_alias if known else self._client.create_alias)(collection, alias)

    def finish(self, collection: str) -> None:
        with self._asking():
            self._client.flush(collection)

    def store(self, collection: str, layout: Layout) -> MilvusStore:
        tokens = self.records(collection + _TOKENS) if layout.token_dimension is not None else None
        with self._asking():
            self._client.load_collection(collection)
        return MilvusStore(self._client, collection, layout, tokens, self._location)

    def records(self, collection: str) -> Records:
        with self._asking():
            if not self._client.has_collection(collection):
                columns = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
                columns.add_field("id", self._types.VARCHAR, is_primary=True, max_length=KEY_LENGTH)
                columns.add_field("key", self._types.VARCHAR, max_length=TEXT_BYTES)
                columns.add_field("text", self._types.VARCHAR, max_length=TEXT_BYTES)
                columns.add_field("nothing", self._types.FLOAT_VECTOR, dim=2)  # Milvus takes no table without vectors
                indexes = self._client.prepare_index_params()
                indexes.add_index("nothing", index_type="FLAT", metric_type="IP")
                self._make(collection, columns, indexes)
            self._client.load_collection(collection)
        return MilvusRecords(self._client, collection, self._location)

    def close(self) -> None:
        with suppress(ServiceError), self._asking():
            self._client.close()
        self._close()

    def _make(self, collection: str, columns: Any, indexes: Any) -> None:
        self._client.create_collection(collection, schema=columns, index_params=indexes, consistency_level="Strong")

    def _asking(self) -> AbstractContextManager[None]:
        return asking("Milvus", self._location)


class MilvusRecords:
    """See `bessemer.search.stores.chunked_contents.Records`."""

    def __init__(self, client: Any, collection: str, location: str) -> None:
        self._client = client
        self._collection = collection
        self._location = location

    def put(self, records: Mapping[str, str]) -> None:
        rows = [{"id": point_id(key), "key": key, "text": text, "nothing": [0, 0]} for key, text in records.items()]
        with asking("Milvus", self._location):
            self._client.upsert(self._collection, rows, timeout=SECONDS)

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        with asking("Milvus", self._location):
            ids = [point_id(key) for key in keys]
            found = self._client.query(self._collection, ids=ids, output_fields=["key", "text"], timeout=SECONDS)
        return {row["key"]: row["text"] for row in found}

    def remove(self, keys: Sequence[str]) -> None:
        with asking("Milvus", self._location):
            self._client.delete(self._collection, ids=[point_id(key) for key in keys], timeout=SECONDS)


_QUIET = {"grpc.keepalive_time_ms": 300_000}
"""pymilvus asks every ten seconds whether an idle connection lives; gRPC's own servers close one that is asked so often
("too many pings"), and the next call fails."""


def _client(url: str, token: str) -> Any:
    milvus = package("pymilvus", NAME)
    for name in ("pymilvus", "milvus_lite"):  # they print each failure that we report
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return milvus.MilvusClient(uri=url, token=token, timeout=SECONDS, grpc_options=_QUIET)
