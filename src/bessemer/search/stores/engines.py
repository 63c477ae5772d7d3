"""Engines by name. Each loads its library only when it is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from bessemer.errors import ConfigError
from bessemer.search.stores.store import Engine


def _files(location: str) -> Engine:
    from bessemer.search.stores.files import FilesEngine

    return FilesEngine(location)


ENGINES: Mapping[str, Callable[[str], Engine]] = {"files": _files}


def open_engine(location: str | Path, name: str | None = None) -> Engine:
    """The engine ``name`` at ``location``; without a name the one that the index there was built with. Raises
    ConfigError for an unknown name."""
    name = name or _engine_of(Path(location))
    if name not in ENGINES:
        raise ConfigError(f"no engine {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name](str(location))


def _engine_of(folder: Path) -> str:
    """As its manifest says; `files` where there is none that can be read, for that engine tells what is wrong."""
    try:
        name = json.loads((folder / "manifest.json").read_bytes())["engine"]
    except (OSError, ValueError, KeyError, TypeError):
        return "files"
    return name if isinstance(name, str) else "files"
