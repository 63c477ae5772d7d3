"""A passage as the fields that an engine keeps, readable for those who search without us."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from bessemer.errors import DataError, Problem
from bessemer.types import Passage

KEPT = tuple(field.name for field in fields(Passage) if field.name != "withheld")
"""Withheld spans are a matter of training: what is served is whole."""
TEXT_HASH = "text_hash"
_OURS = uuid.UUID("6f1d2c1e-53c5-5d0a-9d3b-0b8f4a5e7c21")
_LONG = 1 << 63


def point_id(passage_id: str) -> str:
    """UUIDv5 (RFC 9562): engines take no other text for an id, or no more than so many bytes of it."""
    return str(uuid.uuid5(_OURS, passage_id))


def fields_of(passage: Passage, text_hash: str) -> dict[str, Any]:
    values = {name: getattr(passage, name) for name in KEPT}
    return values | {"headings": list(passage.headings), "metadata": dict(passage.metadata), TEXT_HASH: text_hash}


def passage_of(values: Mapping[str, Any]) -> Passage:
    kept = {name: values[name] for name in KEPT}
    return Passage(**(kept | {"headings": tuple(values["headings"])}))


def check_integers(passages: Iterable[Passage]) -> None:
    """Raises DataError for every passage with a number in its metadata that engines would silently round."""
    problems = [
        Problem(passage.passage_id, None, "metadata", "a whole number of more than 64 bits", "write it as text")
        for passage in passages
        if _has_long(passage.metadata)
    ]
    if problems:
        raise DataError(problems)


def check_same_passages(given: Mapping[str, str], found: Mapping[str, str]) -> None:
    """``given`` and ``found``: point id -> passage id. Raises DataError where one point would be two passages."""
    problems = [
        Problem(given[point], None, "passage_id", f"has the point id of {other!r}", "rename one of the two")
        for point, other in found.items()
        if given[point] != other
    ]
    if problems:
        raise DataError(problems)


def in_order(passage_ids: Sequence[str], found: Mapping[str, Any]) -> list[Any]:
    """What was ``found`` by point id, in the order of ``passage_ids``. Raises KeyError with a passage id."""
    for passage_id in passage_ids:
        if point_id(passage_id) not in found:
            raise KeyError(passage_id)
    return [found[point_id(passage_id)] for passage_id in passage_ids]


def _has_long(value: Any) -> bool:
    if isinstance(value, int):
        return not -_LONG <= value < _LONG
    if isinstance(value, Mapping):
        return any(map(_has_long, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_long, value))
