"""What of a passage a `where` may ask for, in a form that every engine compares alike.

Engines disagree on whether 1 equals true, on what `!=` means where the field is missing, on the order of texts and on
how a value is quoted. So equality is asked of keys that we make ourselves, and order of numbers and of texts in
hexadecimal (UTF-8 keeps the order of the characters, and hexadecimal that of the bytes). A user's field or value never
stands in an engine's expression as it is, so none can change what the expression means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bessemer.search.stores.filters import DOC_ID
from bessemer.search.stores.store import Condition
from bessemer.types import Passage


@dataclass(frozen=True, slots=True)
class FilterKeys:
    """equal     one key for each field and its value.
    numbers   field key -> number, as a 64-bit float.
    texts     field key -> text key."""

    equal: list[str]
    numbers: dict[str, float]
    texts: dict[str, str]


def filter_keys(passage: Passage) -> FilterKeys:
    fields = {**passage.metadata, DOC_ID: passage.doc_id}
    return FilterKeys(
        [equal_key(field, value) for field, value in fields.items() if isinstance(value, str | int | float)],
        {
            field_key(field): float(value)
            for field, value in fields.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        },
        {field_key(field): text_key(value) for field, value in fields.items() if isinstance(value, str)},
    )


def equal_key(field: str, value: str | int | float | bool) -> str:
    """1 and 1.0 have one key; 1, true and "1" have three."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    kind = "number" if type(value) in (int, float) else type(value).__name__
    return hashlib.sha256(f"{kind} {value!r} {field}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def equal_keys(condition: Condition) -> list[str]:
    """Those of which a passage must have one (``=``) or none (``!=``)."""
    return [equal_key(condition.field, value) for value in condition.values]


def field_key(field: str) -> str:
    return "f" + text_key(field)


def text_key(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").hex()


def truths_in_order(condition: Condition, order: Callable[[Any, Any], bool]) -> list[str]:
    """Keys of the truth values that stand in the condition's order to one of its own."""
    truths = [value for value in condition.values if isinstance(value, bool)]
    return [equal_key(condition.field, found) for found in (False, True) if any(order(found, one) for one in truths)]
