"""The engines that the conformance suite runs over, and what some of them are known not to do.

``docs/engines.md`` holds the same table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bessemer.search.stores.files import FilesEngine
from bessemer.search.stores.milvus import open_milvus, open_milvus_lite
from bessemer.search.stores.qdrant_edge import QdrantEdgeEngine
from bessemer.search.stores.qdrant_server import qdrant_engine
from bessemer.search.stores.store import Engine

Open = Callable[[], Engine]
"""Opens the same place again."""

ENGINES = ("files", "qdrant-edge", "qdrant", "milvus", "milvus-server")
CANNOT = {
    ("qdrant", "snapshot"): "a server's snapshots are made there",
    ("qdrant", "kill"): "no server is at hand: the client's local mode stands for it",
    ("qdrant", "threads"): "the client's local mode is for one thread",
    ("milvus", "snapshot"): "Milvus has a tool of its own for that",
    ("milvus", "multi-vector search"): "Milvus has no MaxSim that equals ours",
    ("milvus-server", "snapshot"): "Milvus has a tool of its own for that",
    ("milvus-server", "multi-vector search"): "Milvus has no MaxSim that equals ours",
}
_names = (f"Index{number}" for number in itertools.count())


def skip_if_it_cannot(name: str, what: str) -> None:
    if (name, what) in CANNOT:
        pytest.skip(CANNOT[name, what])


@contextmanager
def place(name: str, folder: Path, milvus_address: Callable[[], str]) -> Iterator[Open]:
    """An empty place for one index of the engine ``name``."""
    if name == "files":
        yield lambda: FilesEngine(folder / "index")
    elif name == "qdrant-edge":
        yield lambda: QdrantEdgeEngine(folder / "index")
    elif name == "milvus":
        yield lambda: open_milvus_lite(folder / "index")
    elif name == "milvus-server":
        location = f"{milvus_address()}/{next(_names)}"
        yield lambda: open_milvus(location)
    else:
        from qdrant_client import QdrantClient

        yield lambda: qdrant_engine("qdrant://local/Index", "Index", QdrantClient(path=str(folder / "local")))
