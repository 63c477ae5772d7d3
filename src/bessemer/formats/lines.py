"""One reader for lines, JSON lines and their fields; one writer that never leaves a half-written file.

A reader appends a Problem per fault and goes on, so that a user sees all faults at once. Blank lines are skipped.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from bessemer.errors import ConfigError, Problem

MAX_LINE_BYTES = 64 * 2**20
ONE_OBJECT_PER_LINE = "write one JSON object per line"
GRADE = re.compile(r"[+-]?[0-9]{1,9}")
"""A relevance grade in a table."""
_KINDS = {str: "a string", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def hash_id(text: str) -> str:
    """The id of a text that came without one: 16 hex digits of its SHA-256."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def kind(value: object) -> str:
    """How a JSON value is called in a message."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def is_number(text: str) -> bool:
    """Whether a column of a table holds a number, be it NaN: such a line is no header."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_lines(path: str | Path, problems: list[Problem]) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without its line end) of a UTF-8 file; a BOM and CRLF are tolerated."""
    file = str(path)
    try:
        with open(path, "rb") as stream:
            number = 0
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    message = f"line is longer than {MAX_LINE_BYTES / 2**20:g} MiB"
                    problems.append(Problem(file, number, "", message, "split the text"))
                    while raw and not raw.endswith(b"\n"):
                        raw = stream.readline(MAX_LINE_BYTES)
                    continue
                if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    problems.append(Problem(file, 1, "", "file is UTF-16", "save it as UTF-8"))
                    return
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    message = f"byte {raw[error.start]:#04x} at position {error.start + 1} is not UTF-8"
                    problems.append(Problem(file, number, "", message, "save the file as UTF-8"))
                    continue
                if text.strip():
                    yield number, text.rstrip("\r\n")
    except OSError as error:
        problems.append(Problem(file, None, "", f"cannot be read ({error.strerror})", "check the path"))


def read_jsonl(path: str | Path, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of every good line; each bad line is appended to ``problems``."""
    file = str(path)
    first = True
    for number, text in read_lines(path, problems):
        if first and text.lstrip().startswith("["):
            problems.append(Problem(file, number, "", "file is one JSON array", ONE_OBJECT_PER_LINE))
            return
        first = False
        try:
            value = json.loads(text)
            place = _not_finite(value)
        except json.JSONDecodeError as error:
            message = f"not valid JSON: {error.msg} at column {error.colno}"
            problems.append(Problem(file, number, "", message, ONE_OBJECT_PER_LINE))
            continue
        except (ValueError, RecursionError):  # a number of thousands of digits; thousands of nested brackets
            problems.append(Problem(file, number, "", "JSON is nested or long beyond reason", ONE_OBJECT_PER_LINE))
            continue
        if not isinstance(value, dict):
            problems.append(Problem(file, number, "", f"line holds {kind(value)}, not an object", ONE_OBJECT_PER_LINE))
        elif place is not None:
            problems.append(Problem(file, number, place[1:], "is NaN or beyond all numbers", "give a number or null"))
        elif "\\u" in text and _has_lone_surrogate(value):
            problems.append(Problem(file, number, "", "half a surrogate pair", "write the whole character"))
        else:
            yield number, value


def _not_finite(value: object) -> str | None:
    """Where the first number is that JSON cannot hold, though Python reads it; such a row could never be written."""
    if isinstance(value, float):
        return None if math.isfinite(value) else ""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        place = _not_finite(item)
        if place is not None:
            return f".{name}{place}" if isinstance(value, dict) else f"[{name}]{place}"
    return None


def _has_lone_surrogate(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


@dataclass(frozen=True, slots=True)
class Fields:
    """The checked fields of one row. Each method reports what is wrong and then returns None."""

    file: str
    line: int | None
    values: Mapping[str, Any]
    problems: list[Problem]

    def fault(self, field: str, message: str, fix: str) -> None:
        self.problems.append(Problem(self.file, self.line, field, message, fix))

    def text(self, field: str, *, optional: bool = False) -> str | None:
        """A string, perhaps empty; when ``optional``, "" stands for a missing or null one."""
        value = self.values.get(field)
        if isinstance(value, str):
            return value
        if optional and value is None:
            return ""
        message = "is missing" if field not in self.values else f"is {kind(value)}, not a string"
        self.fault(field, message, f'give "{field}": "..."')
        return None

    def identifier(self, field: str, *, optional: bool = False) -> str | None:
        """A non-empty id; integers, which many exports write, become strings."""
        value = self.values.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip():
            return value
        if optional and value is None:
            return None
        message = "is missing" if field not in self.values else f"is {kind(value)}, not an id"
        if isinstance(value, str):
            message = "is empty"
        self.fault(field, message, f'give "{field}": "..."')
        return None

    def _items(self, field: str, items: str) -> list[Any] | None:
        value = self.values.get(field)
        if value is None or isinstance(value, list):
            return value
        self.fault(field, f"is {kind(value)} where a list of {items} belongs", f'write "{field}": [...]')
        return None

    def texts(self, field: str) -> tuple[str, ...] | None:
        """A list of strings; None when it is missing, null or faulty."""
        values = self._items(field, "strings")
        for position, value in enumerate(values or ()):
            if not isinstance(value, str):
                self.fault(f"{field}[{position}]", f"is {kind(value)}, not a string", "give a list of strings")
                values = None
        return None if values is None else tuple(values)

    def identifiers(self, field: str) -> tuple[str, ...] | None:
        """A list of ids (strings or integers); None when it is missing, null or faulty."""
        values = self._items(field, "ids")
        ids: list[str] = []
        for position, value in enumerate(values or ()):
            if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
                self.fault(f"{field}[{position}]", f"is {kind(value)}, not an id", "give a list of ids")
                values = None
            else:
                ids.append(str(value))
        return None if values is None else tuple(ids)

    def numbers(self, field: str) -> tuple[float, ...] | None:
        """A list of finite numbers; None when it is missing, null or faulty."""
        values = self._items(field, "numbers")
        for position, value in enumerate(values or ()):
            if not _is_finite(value):
                shown = value if isinstance(value, float) else kind(value)
                self.fault(f"{field}[{position}]", f"is {shown}, not a finite number", "give a list of numbers")
                values = None
        return None if values is None else tuple(float(value) for value in values)


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[TextIO]:
    """A UTF-8 text file that appears under ``path`` only when it is whole. Raises ConfigError when it cannot."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); check the output folder") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object per line, atomically."""
    with atomic_writer(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
