"""Engines by name. Each loads its library only when it is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from bessemer.errors import ConfigError
from bessemer.search.stores.addresses import MILVUS_FILE
from bessemer.search.stores.store import Engine


def _files(location: str) -> Engine:
    from bessemer.search.stores.files import FilesEngine

    return FilesEngine(location)


def _qdrant_edge(location: str) -> Engine:
    from bessemer.search.stores.qdrant_edge import QdrantEdgeEngine

    return QdrantEdgeEngine(location)


def _qdrant(location: str) -> Engine:
    from bessemer.search.stores.qdrant_server import open_qdrant

    return open_qdrant(location)


def _milvus(location: str) -> Engine:
    from bessemer.search.stores.milvus import open_milvus, open_milvus_lite

    return open_milvus(location) if ADDRESS in location else open_milvus_lite(location)


ADDRESS = "://"
ENGINES: Mapping[str, Callable[[str], Engine]] = {
    "files": _files,
    "qdrant-edge": _qdrant_edge,
    "qdrant": _qdrant,
    "milvus": _milvus,
}
SERVED = ("qdrant", "milvus")
"""Those that a location may be an address of."""


def open_engine(location: str | Path, name: str | None = None) -> Engine:
    """The engine ``name`` at ``location``, a folder or an address (``milvus://host:port/NAME``); without a name the
    one of the address, or the one that the index in the folder was built with. Raises ConfigError for an unknown name,
    for one that does not fit the address, and for an engine whose package is not installed."""
    place = str(location)
    served = place.partition(ADDRESS)[0].removesuffix("+tls") if ADDRESS in place else None
    name = name or served or _engine_of(Path(place))
    if name not in ENGINES:
        raise ConfigError(f"no engine {name!r}; known: {', '.join(ENGINES)}")
    if served is not None and (served != name or name not in SERVED):
        raise ConfigError(f"{place}: no address of the engine {name!r}; leave the engine out, or give a folder")
    return ENGINES[name](place)


def _engine_of(folder: Path) -> str:
    """As its manifest says; `files` where there is none that can be read, for that engine tells what is wrong. Milvus
    keeps the manifest in its own file."""
    if (folder / MILVUS_FILE).is_dir():
        return "milvus"
    try:
        name = json.loads((folder / "manifest.json").read_bytes())["engine"]
    except (OSError, ValueError, KeyError, TypeError):
        return "files"
    return name if isinstance(name, str) else "files"
