"""`where` as a Qdrant filter, for the embedded engine and the server alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bessemer.search.stores.filter_keys import equal_keys, field_key, text_key, truths_in_order
from bessemer.search.stores.filters import ORDERS
from bessemer.search.stores.store import Condition, Filter

EQUAL, NUMBERS, TEXTS = "equal", "numbers", "texts"
NOTHING = "-"  # no key, so no passage has it
_NAMES = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}

TextsOf = Callable[[str], Sequence[str]]


def qdrant_filter(where: Filter, models: Any, texts_of: TextsOf) -> Any:
    """``models``: the module with ``Filter``, ``FieldCondition``, ``MatchAny`` and a ``Range``. Qdrant orders no
    texts, so ``texts_of`` gives the distinct ones of a field, and those that are in range are asked for."""
    must, must_not = [], []
    for condition in where:
        if condition.operator == "=":
            must.append(_any_of(EQUAL, equal_keys(condition), models))
        elif condition.operator == "!=":
            must_not.append(_any_of(EQUAL, equal_keys(condition), models))
        else:
            must.append(models.Filter(should=_in_order(condition, models, texts_of)))
    return models.Filter(must=must, must_not=must_not) if where else None


def _any_of(key: str, values: Sequence[str], models: Any) -> Any:
    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values) or [NOTHING]))


def _in_order(condition: Condition, models: Any, texts_of: TextsOf) -> list[Any]:
    name, order = _NAMES[condition.operator], ORDERS[condition.operator]
    field = field_key(condition.field)
    kinds = [_any_of(EQUAL, truths_in_order(condition, order), models)]
    for value in condition.values:
        if isinstance(value, str):
            found = [text for text in texts_of(f"{TEXTS}.{field}") if order(text, text_key(value))]
            kinds.append(_any_of(f"{TEXTS}.{field}", found, models))
        elif not isinstance(value, bool):
            in_range = models.Range(**{name: float(value)})
            kinds.append(models.FieldCondition(key=f"{NUMBERS}.{field}", range=in_range))
    return kinds
