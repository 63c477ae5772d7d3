"""Contents of any size in an engine whose records are small texts: in chunks, and never read half-written.

The chunks of a new content get a name that nobody had before. When all of them are there, the pointer, one record, is
replaced; only then the old chunks go. So whoever reads follows the old pointer or the new one, and a content whose
writer was killed is named by nobody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from bessemer.errors import ArtifactError

CHUNK = 45_000  # bytes; 60,000 characters as base64: servers take 65,535
_AT_ONCE = 100
_TRIES = 5

T = TypeVar("T")


class Records(Protocol):
    """A collection of small texts by key."""

    def put(self, records: Mapping[str, str]) -> None:
        """Add or replace; on disk upon return."""
        ...

    def get(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Those that are there."""
        ...

    def remove(self, keys: Sequence[str]) -> None: ...


def write_contents(records: Records, contents: Mapping[str, bytes]) -> None:
    """Each as a whole or not at all."""
    before = _pointers(records, list(contents))
    version = secrets.token_hex(8)
    pointers = {name: _pointer_to(content, version) for name, content in contents.items()}
    chunks = [
        (key, content[number * CHUNK : (number + 1) * CHUNK])
        for name, content in contents.items()
        for number, key in enumerate(_keys(name, pointers[name]))
    ]
    for some in _parts(chunks):
        records.put({key: base64.b64encode(chunk).decode("ascii") for key, chunk in some})
    for names in _parts(list(contents)):
        records.put({name: json.dumps(pointers[name]) for name in names})
    _remove(records, [key for name, pointer in before.items() for key in _keys(name, pointer)])


def read_contents(records: Records, names: Sequence[str], location: str) -> dict[str, bytes]:
    """Those that there are. Raises ArtifactError where chunks are missing or damaged."""
    found: dict[str, bytes] = {}
    for _ in range(_TRIES):  # a writer may replace a content after its pointer was read
        pointers = _pointers(records, [name for name in names if name not in found])
        keys = {name: _keys(name, pointer) for name, pointer in pointers.items()}
        chunks = _get(records, [key for of_name in keys.values() for key in of_name])
        for name, of_name in keys.items():
            content = b"".join(base64.b64decode(chunks[key]) for key in of_name if key in chunks)
            if hashlib.sha256(content).hexdigest() == pointers[name]["sha256"]:
                found[name] = content
        if found.keys() >= pointers.keys():
            return found
    lost = sorted(pointers.keys() - found.keys())
    raise ArtifactError(f"{location}: the index is damaged (chunks of {lost[0]} are missing); build it again")


def remove_contents(records: Records, names: Sequence[str]) -> None:
    """No error where there is none. Pointers go first."""
    pointers = _pointers(records, names)
    _remove(records, list(pointers))
    _remove(records, [key for name, pointer in pointers.items() for key in _keys(name, pointer)])


def _pointers(records: Records, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {name: json.loads(text) for name, text in _get(records, names).items()}


def _pointer_to(content: bytes, version: str) -> dict[str, Any]:
    chunks = -(-len(content) // CHUNK)
    return {"version": version, "chunks": chunks, "sha256": hashlib.sha256(content).hexdigest()}


def _keys(name: str, pointer: Mapping[str, Any]) -> list[str]:
    return [f"{name}/{pointer['version']}/{number}" for number in range(pointer["chunks"])]


def _get(records: Records, keys: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in _parts(keys):
        found |= records.get(some)
    return found


def _remove(records: Records, keys: Sequence[str]) -> None:
    for some in _parts(keys):
        records.remove(some)


def _parts(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
