"""Conditions on metadata: read from a command line, and tried on a passage where the engine itself has no filters."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from bessemer.errors import ConfigError
from bessemer.search.stores.store import Condition, Filter, Operator
from bessemer.types import Passage

Value = str | int | float | bool

DOC_ID = "doc_id"
ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_CONDITION = re.compile(r"\s*([^=!<>]*[^=!<>\s])\s*(!=|>=|<=|=|>|<)\s*(?![=!<>])(.*\S)\s*", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")


def matches(passage: Passage, where: Filter) -> bool:
    """Whether ``passage`` meets all of ``where``."""
    return holds(passage.doc_id, passage.metadata, where)


def holds(doc_id: str, metadata: Mapping[str, Any], where: Filter) -> bool:
    """`matches`, where the passage itself is not at hand.

    Texts are compared with texts, numbers with numbers, truth values with truth values. A value of another kind than
    the condition's, or one that is a list or an object, is as if it were not there: it meets ``!=`` alone.
    """
    return all(_meets(doc_id if one.field == DOC_ID else metadata.get(one.field), one) for one in where)


def _meets(found: Any, condition: Condition) -> bool:
    comparable = [value for value in condition.values if _kind(found) is not None and _kind(found) == _kind(value)]
    if condition.operator in ("=", "!="):
        return (found in comparable) == (condition.operator == "=")
    return any(ORDERS[condition.operator](found, value) for value in comparable)


def _kind(value: Any) -> str | None:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else None


def parse_where(texts: Sequence[str]) -> Filter:
    """``["source=handbook.md", "year>=2020"]`` as conditions, all of which must hold; of one field several ``=`` mean
    any of the values. A value that looks like a number or like true or false meets both that and the text. Raises
    ConfigError for what is no condition."""
    equal: dict[str, list[Value]] = {}
    others = []
    for text in texts:
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ConfigError(f"--where {text!r}: write FIELD=VALUE, or !=, >=, <=, > or < in place of =")
        field, symbol, value = found.groups()
        readings = _readings(value)
        if symbol == "=":
            equal.setdefault(field, []).extend(readings)
        else:  # an order is of numbers or of texts, never of both
            chosen = readings if symbol == "!=" else readings[:1] if _kind(readings[0]) == "number" else (value,)
            others.append(Condition(field, cast(Operator, symbol), chosen))
    return (*(Condition(field, "=", tuple(values)) for field, values in equal.items()), *others)


def _readings(value: str) -> tuple[Value, ...]:
    if value in ("true", "false"):
        return value == "true", value
    if _INTEGER.fullmatch(value):
        return int(value), value
    return (float(value), value) if _NUMBER.fullmatch(value) else (value,)
