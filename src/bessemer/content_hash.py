"""Content hashes: one sha256 for each kind of value that a step takes or returns, the same in every process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import os
import stat
import types
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from bessemer.errors import ConfigError
from bessemer.source_hash import source_hash

Update = Callable[[bytes | memoryview], None]

LONG = 64  # sequences from here on are hashed on their own, so that one hash of a corpus serves many steps


def content_hash(value: Any) -> str:
    """Hex sha256 of ``value`` (see ContentHasher)."""
    return ContentHasher().digest(value)


class VisibleFiles:
    """For a step, in place of the Path of documents: hidden folders count by their names, since nothing in them is
    read. A workspace or .git among the documents changes with every run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def fingerprint(self) -> str:
        """Raises ConfigError as a Path does."""
        sha = hashlib.sha256()
        _feed_path(self.path, sha.update, enter_hidden=False)
        return sha.hexdigest()


class ContentHasher:
    """Hashes values by content, and remembers long tuples and values that were given a known hash.

    Understood: None, bool, int, float (all NaNs are equal), str, bytes, Enum, list and tuple (equal to each other),
    mappings and sets (in any order), frozen dataclasses, pydantic models, numpy arrays and scalars, functions (by
    source, bound and captured values), anything with a ``fingerprint`` string (by it, or by its wider
    ``content_key`` where it has one, and its class's source), and
    Path: the *content* of the file or folder there, with its name. Anything else is a TypeError that names the type.
    """

    def __init__(self) -> None:
        # The value is kept beside its hash: an id is only unique among living objects.
        self._known: dict[int, tuple[Any, str]] = {}

    def note(self, value: Any, digest: str) -> None:
        """``value`` has this hash. Only remembered for tuples and frozen dataclasses: others may change."""
        if type(value) is tuple or _is_frozen(type(value)):
            self._known[id(value)] = (value, digest)

    def digest(self, value: Any) -> str:
        """Hex sha256. Raises TypeError for a kind of value that has no hash, ConfigError for a Path to nothing."""
        if id(value) in self._known:
            return self._known[id(value)][1]
        sha = hashlib.sha256()
        if type(value) in (list, tuple):
            self._sequence(value, sha.update)
        else:
            self._feed(value, sha.update)
        if type(value) is tuple and len(value) >= LONG and _is_frozen(type(value[0])):
            self.note(value, sha.hexdigest())
        return sha.hexdigest()

    def _feed(self, value: Any, update: Update) -> None:
        kind = type(value)
        if kind is str:
            raw = value.encode("utf-8", "surrogatepass")
            update(b"s%d:" % len(raw) + raw)
        elif kind is int:
            update(b"i%d;" % value)
        elif kind is float:
            update(b"f%s;" % repr(value).encode())
        elif value is None or kind is bool:
            update(b"N" if value is None else b"T" if value else b"F")
        elif kind is tuple or kind is list:
            if len(value) >= LONG:
                update(b"L" + self.digest(value).encode())
            else:
                self._sequence(value, update)
        else:
            self._feed_object(value, kind, update)

    def _sequence(self, value: list[Any] | tuple[Any, ...], update: Update) -> None:
        update(b"[%d:" % len(value))
        for item in value:
            self._feed(item, update)

    def _feed_object(self, value: Any, kind: type, update: Update) -> None:
        """The rarer kinds. Each starts with its own letter; records are (letter, name, {field: value})."""
        if isinstance(value, Enum):
            self._record(b"E", kind.__name__, {"name": value.name}, update)
        elif _is_frozen(kind) and (not hasattr(value, "fingerprint") or "fingerprint" in _fields(kind)):
            update(_header(kind))
            for name in _fields(kind):
                self._feed(getattr(value, name), update)
        elif isinstance(value, BaseModel):
            self._record(b"P", kind.__name__, {name: getattr(value, name) for name in type(value).model_fields}, update)
        elif isinstance(value, Mapping):
            self._mapping(value, update)
        elif isinstance(value, set | frozenset):
            update(b"<%d:" % len(value) + "".join(sorted(map(self.digest, value))).encode())
        elif isinstance(value, bytes):
            update(b"b%d:" % len(value) + value)
        elif isinstance(value, Path):
            _feed_path(value, update)
        elif isinstance(value, np.ndarray):
            _feed_array(value, update)
        elif isinstance(value, np.generic):
            self._feed(value.item(), update)
        elif callable(value) and isinstance(value, _FUNCTIONS):
            self._function(value, update)
        elif (identity := _identity(value)) is not None:
            self._record(b"O", kind.__name__, {"fingerprint": identity, "source": source_hash(kind)}, update)
        else:
            raise TypeError(
                f"{kind.__module__}.{kind.__qualname__} has no content hash: hand the step frozen dataclasses, plain "
                "values, numpy arrays, paths, or objects with a `fingerprint`"
            )

    def _record(self, letter: bytes, name: str, fields: Mapping[str, Any], update: Update) -> None:
        update(letter)
        self._feed(name, update)
        self._mapping(fields, update)

    def _mapping(self, value: Mapping[Any, Any], update: Update) -> None:
        update(b"{%d:" % len(value))
        plain = all(type(key) is str for key in value)
        for key in sorted(value, key=None if plain else self.digest):
            self._feed(key, update)
            self._feed(value[key], update)

    def _function(self, value: Any, update: Update) -> None:
        if isinstance(value, functools.partial):
            self._record(b"C", "partial", {"f": value.func, "args": value.args, "kw": value.keywords}, update)
            return
        if isinstance(value, types.MethodType):
            self._record(b"C", "method", {"f": value.__func__, "self": value.__self__}, update)
            return
        function = inspect.unwrap(value)
        if function.__name__ == "<lambda>":
            raise TypeError("a lambda has no stable content hash: give the function a name with `def`")
        parts = {
            "name": f"{function.__module__}.{function.__qualname__}",
            "source": source_hash(function),
            "defaults": function.__defaults__,
            "kwdefaults": function.__kwdefaults__,
            "captured": tuple(
                cell.cell_contents for cell in function.__closure__ or () if cell.cell_contents is not function
            ),
        }
        self._record(b"C", "function", parts, update)


_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)


def _is_frozen(kind: type) -> bool:
    params = getattr(kind, "__dataclass_params__", None)
    return params is not None and params.frozen


def _identity(value: Any) -> str | None:
    """Its content key or else its fingerprint, asked for once: it may be a hash over all weights."""
    if isinstance(value, type):
        return None
    key = getattr(value, "content_key", None)
    if key is None:
        key = getattr(value, "fingerprint", None)
    return key if isinstance(key, str) else None


@functools.cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


@functools.cache
def _header(kind: type) -> bytes:
    text = " ".join((kind.__name__, *_fields(kind))).encode()
    return b"@%d:" % len(text) + text


def _feed_array(value: np.ndarray[Any, Any], update: Update) -> None:
    if value.dtype.hasobject:
        raise TypeError("a numpy array of Python objects has no content hash; use a tuple")
    update(f"A{value.dtype.str}{value.shape};".encode())
    if value.size:
        update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _feed_path(path: Path, update: Update, *, enter_hidden: bool = True) -> None:
    """The name and all files below, by relative path and content. Links to folders count by their target's name."""
    try:
        resolved = path.resolve()
        if not resolved.is_dir():
            update(f"/file {resolved.name!r} {file_hash(resolved)};".encode())
            return
        update(f"/folder {resolved.name!r} ".encode())
        for file in files_below(resolved, enter_hidden=enter_hidden):
            update(f"{file.relative_to(resolved).as_posix()!r} {file_hash(file)};".encode())
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: cannot be read ({error.strerror}); check the path") from None


def files_below(folder: Path, *, enter_hidden: bool = True) -> list[Path]:
    """All files in ``folder`` and its subfolders, sorted; links to folders are listed and not entered, and so are
    hidden folders if asked."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        found += (Path(parent, name) for name in files)
        passed = [n for n in folders if Path(parent, n).is_symlink() or (n.startswith(".") and not enter_hidden)]
        found += (Path(parent, name) for name in passed)
        folders[:] = [name for name in folders if name not in passed]
    return sorted(found)


def file_hash(path: Path) -> str:
    """Hex sha256 of a file's bytes; of the target's name for a broken link, of nothing for what is no regular file."""
    if path.is_symlink() and (not path.exists() or path.is_dir()):
        return hashlib.sha256(b"link " + os.fsencode(os.readlink(path))).hexdigest()
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe or device would never end
        return hashlib.sha256(b"special").hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _raise(error: OSError) -> None:
    raise error
