"""Results of steps as files: records in JSONL, arrays in .npy, the rest as tagged JSON. No pickle.

Plain JSON stands for itself, ``{"$tuple": [...]}`` and the like mark what JSON cannot say, and
``{"$type": "Passage", ...}`` is a dataclass, looked up by name in `result_classes` only: no file makes us import.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import json
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

import bessemer.types
from bessemer.content_hash import files_below
from bessemer.durable import flush
from bessemer.errors import ArtifactError

RESULT = "result.json"
WORK = "work"  # the folder that a step may write to itself
LONG = 100  # records from which on a sequence gets a JSONL file of its own

_SEQUENCES: dict[str, Callable[[Iterable[Any]], Any]] = {
    "$tuple": tuple, "$list": list, "$set": set, "$frozenset": frozenset,
}  # fmt: skip


def result_classes(function: Callable[..., Any]) -> dict[str, type]:
    """The dataclasses and pydantic models that ``function`` may return: those of `bessemer.types`, and those that its
    return annotation names, directly or in a field. Raises TypeError when two of them share a name."""
    found = {value.__name__: value for value in vars(bessemer.types).values() if _is_record(value)}
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    owner = getattr(function, "__func__", function)
    annotation = getattr(owner, "__annotations__", {}).get("return")
    _collect(_resolve(annotation, getattr(owner, "__globals__", {})), found)
    return found


def _collect(hint: Any, found: dict[str, type]) -> None:
    for argument in typing.get_args(hint):
        _collect(argument, found)
    kind = typing.get_origin(hint) or hint
    if not _is_record(kind) or found.get(kind.__name__) is kind:
        return
    if kind.__name__ in found:
        raise TypeError(f"a step's result has two classes named {kind.__name__}: {kind}, {found[kind.__name__]}")
    found[kind.__name__] = kind
    for base in kind.__mro__:
        for annotation in inspect.get_annotations(base).values():
            _collect(_resolve(annotation, vars(sys.modules[base.__module__])), found)


def _is_record(value: Any) -> bool:
    return isinstance(value, type) and (dataclasses.is_dataclass(value) or issubclass(value, BaseModel))


def _resolve(annotation: Any, module: dict[str, Any]) -> Any:
    probe = types.SimpleNamespace(__annotations__={"it": annotation})
    with contextlib.suppress(NameError):  # imported for type checkers only: encoding such a value says what to do
        return typing.get_type_hints(probe, module)["it"]
    return None


def save_result(result: Any, folder: Path, classes: Mapping[str, type]) -> list[str]:
    """Write ``result`` into ``folder`` (resolved), flushed to the disk.

    Returns the artifact's files, relative: those written, and those in ``folder/work`` that a Path of the result
    names. Raises TypeError for what the codec does not know, ArtifactError for a Path with nothing there.
    """
    writer = _Writer(folder, classes)
    text = json.dumps(writer.encode(result, ()), ensure_ascii=False, allow_nan=False)
    writer.write(RESULT, [text.encode("utf-8", "surrogatepass")])
    return sorted(set(writer.files))


def load_result(folder: Path, classes: Mapping[str, type]) -> Any:
    """What `save_result` wrote. Raises ArtifactError when the files do not hold a result of these classes."""
    reader = _Reader(folder, classes)
    try:
        return reader.parse((folder / RESULT).read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        advice = "delete this folder to run the step again"
        raise ArtifactError(f"{folder}: not a readable result ({error}); {advice}") from error


class _Writer:
    def __init__(self, folder: Path, classes: Mapping[str, type]) -> None:
        self.folder = folder
        self.classes = classes
        self.files: list[str] = []

    def encode(self, value: Any, at: tuple[str, ...], in_row: bool = False) -> Any:
        """``value`` as JSON data; ``at`` is the way to it through the fields, which names its files."""
        kind = type(value)
        if value is None or kind in (str, int, bool):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if kind in (list, tuple, set, frozenset):
            return self._sequence(value, kind, at, in_row)
        if isinstance(value, Mapping):
            return self._mapping(value, at, in_row)
        if _is_record(kind):
            fields = _field_names(kind)
            if self.classes.get(kind.__name__) is not kind:
                raise TypeError(f"a step that returns a {kind.__name__} must name it in its return annotation")
            return {"$type": kind.__name__} | {
                name: self.encode(getattr(value, name), (*at, name), in_row) for name in fields
            }
        if isinstance(value, Path):
            return {"$path": self._path(value)}
        if isinstance(value, np.ndarray):
            return {"$array": self._array(value, at)}
        if isinstance(value, np.generic):
            return self.encode(value.item(), at, in_row)
        raise TypeError(
            f"a step cannot return a {kind.__module__}.{kind.__qualname__} (at {'.'.join(at) or 'the top'})"
        )

    def _sequence(self, value: Any, kind: type, at: tuple[str, ...], in_row: bool) -> Any:
        if not in_row and kind in (list, tuple) and len(value) >= LONG and _is_record(type(value[0])):
            name = self._file_name(at, "jsonl")
            self.write(name, self._lines(value, at))
            return {"$rows": name, "as": f"${kind.__name__}"}
        items = [self.encode(item, (*at, str(i)), in_row) for i, item in enumerate(value)]
        if kind in (set, frozenset):
            items.sort(key=json.dumps)
        return items if kind is list else {f"${kind.__name__}": items}

    def _lines(self, rows: Sequence[Any], at: tuple[str, ...]) -> Iterator[bytes]:
        for row in rows:
            text = json.dumps(self.encode(row, at, in_row=True), ensure_ascii=False, allow_nan=False)
            yield text.encode("utf-8", "surrogatepass") + b"\n"

    def _mapping(self, value: Mapping[Any, Any], at: tuple[str, ...], in_row: bool) -> Any:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.encode(item, (*at, key), in_row) for key, item in value.items()}
        return {"$map": [[self.encode(part, (*at, "item"), in_row) for part in pair] for pair in value.items()]}

    def _path(self, path: Path) -> str:
        """Relative to the step's folder where it is inside; its files then belong to the artifact."""
        path = path.resolve()
        if not path.exists():
            raise ArtifactError(f"{path}: the step returned this path, and nothing is there")
        if not path.is_relative_to(self.folder / WORK):
            return str(path)
        inside = files_below(path) if path.is_dir() else [path]
        for file in inside:
            self.files.append(file.relative_to(self.folder).as_posix())
            if file.is_file():
                flush(file)
        return path.relative_to(self.folder).as_posix()

    def _array(self, array: np.ndarray[Any, Any], at: tuple[str, ...]) -> str:
        """As np.save would write it; that one's error on a full disk does not say that the disk is full."""
        if array.dtype.hasobject:
            raise TypeError(f"a step cannot return an array of Python objects (at {'.'.join(at) or 'the top'})")
        array = np.asarray(array, order="C")
        header = io.BytesIO()
        np.lib.format.write_array_header_2_0(header, np.lib.format.header_data_from_array_1_0(array))
        name = self._file_name(at, "npy")
        self.write(name, [header.getvalue(), array.reshape(-1).view(np.uint8).data])
        return name

    def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        with (self.folder / name).open("wb") as file:
            file.writelines(chunks)
        flush(self.folder / name)
        self.files.append(name)

    def _file_name(self, at: tuple[str, ...], suffix: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", ".".join(at))[:80].strip(".") or "rows"
        name, n = f"{stem}.{suffix}", 1
        while name in self.files:
            name, n = f"{stem}-{n}.{suffix}", n + 1
        return name


class _Reader:
    def __init__(self, folder: Path, classes: Mapping[str, type]) -> None:
        self.folder = folder
        self.classes = classes

    def parse(self, raw: bytes) -> Any:
        return json.loads(raw, object_hook=self._revive)

    def _revive(self, data: dict[str, Any]) -> Any:
        """Called by the parser for each object, innermost first."""
        tag = next(iter(data), "")
        if not tag.startswith("$"):
            return data
        content = data.pop(tag)
        if tag == "$type":
            kind = self.classes[content]
            return kind.model_validate(data) if issubclass(kind, BaseModel) else kind(**data)
        if tag in _SEQUENCES:
            return _SEQUENCES[tag](content)
        if tag == "$float":
            return float(content)
        if tag == "$map":
            return dict(content)
        if tag == "$path":
            return self.folder / content  # an absolute path stays as it is
        if tag == "$array":
            return np.load(self._file(content), allow_pickle=False)
        if tag == "$rows":
            with self._file(content).open("rb") as lines:
                return _SEQUENCES[data["as"]](self.parse(line) for line in lines)
        raise ValueError(f"unknown tag {tag}")

    def _file(self, name: str) -> Path:
        if Path(name).name != name:
            raise ValueError(f"{name!r} is not a file of this folder")
        return self.folder / name


def _field_names(kind: Any) -> list[str]:
    if issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return [field.name for field in dataclasses.fields(kind) if field.init]
