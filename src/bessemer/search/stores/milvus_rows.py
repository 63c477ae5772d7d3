"""Passages as rows of Milvus: the columns, what goes into them, and `where` as an expression over them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from bessemer.errors import DataError, Problem
from bessemer.search.stores.filter_keys import equal_keys, field_key, filter_keys, text_key, truths_in_order
from bessemer.search.stores.filters import ORDERS
from bessemer.search.stores.passage_fields import TEXT_HASH, check_integers, fields_of, point_id
from bessemer.search.stores.sparse_rows import row_of
from bessemer.search.stores.store import Condition, Filter, Layout, Stored

KEY, PASSAGE_ID, PASSAGE, EQUAL, ORDERED, DENSE = "point_id", "passage_id", "passage", "equal", "ordered", "dense"
TEXT_BYTES = 65_535  # of a VARCHAR; a JSON column takes one byte more
KEYS_AT_MOST = 4096
KEY_LENGTH = 64
EMPTY = {(1 << 31) + 1: 1.0}
"""Milvus takes no sparse vector without entries; ids of ours stay below 2^31, so no query has this one."""

Row = dict[str, Any]


def schema(layout: Layout, client: Any, types: Any) -> Any:
    columns = client.create_schema(auto_id=False, enable_dynamic_field=False)
    columns.add_field(KEY, types.VARCHAR, is_primary=True, max_length=KEY_LENGTH)
    for name in (PASSAGE_ID, TEXT_HASH):
        columns.add_field(name, types.VARCHAR, max_length=TEXT_BYTES)
    for name in (PASSAGE, ORDERED):
        columns.add_field(name, types.JSON)
    columns.add_field(EQUAL, types.ARRAY, element_type=types.VARCHAR, max_capacity=KEYS_AT_MOST, max_length=KEY_LENGTH)
    columns.add_field(DENSE, types.FLOAT_VECTOR, dim=layout.dimension)
    for name in sparse_lanes(layout):
        columns.add_field(name, types.SPARSE_FLOAT_VECTOR)
    return columns


def sparse_lanes(layout: Layout) -> list[str]:
    return ["bm25", *(["sparse"] if layout.has_sparse else [])]


def rows_to_write(batch: Stored, layout: Layout) -> list[Row]:
    """Raises DataError with every passage that Milvus cannot keep whole."""
    check_integers(batch.passages)
    rows = [_row(batch, row, layout) for row in range(len(batch.passages))]
    problems = [
        Problem(row[PASSAGE_ID], None, name, f"{size:,} bytes, and Milvus keeps {TEXT_BYTES:,}", "cut shorter passages")
        for row in rows
        for name in (PASSAGE_ID, PASSAGE, ORDERED)
        if (size := _size(row[name])) > TEXT_BYTES
    ]
    if problems:
        raise DataError(problems)
    return rows


def _row(batch: Stored, row: int, layout: Layout) -> Row:
    passage, encoded = batch.passages[row], batch.encoded
    assert encoded.dense is not None
    keys = filter_keys(passage)
    fields = fields_of(passage, batch.text_hashes[row])
    del fields[TEXT_HASH]
    ordered = {**_named("n", keys.numbers), **_named("t", keys.texts)}
    written: Row = {
        KEY: point_id(passage.passage_id),
        PASSAGE_ID: passage.passage_id,
        TEXT_HASH: batch.text_hashes[row],
        PASSAGE: fields,
        ORDERED: ordered,
        EQUAL: keys.equal,
        DENSE: encoded.dense[row],
        "bm25": sparse_value(*row_of(batch.bm25, row)),
    }
    if encoded.sparse is not None and layout.has_sparse:
        written["sparse"] = sparse_value(*row_of(encoded.sparse, row))
    return written


def sparse_value(indices: list[int], values: list[float]) -> dict[int, float]:
    return dict(zip(indices, values, strict=True)) or EMPTY


def sparse_entries(value: Mapping[int, float]) -> tuple[list[int], list[float]]:
    """What was given to ``sparse_value``."""
    pairs = sorted(value.items()) if value.keys() != EMPTY.keys() else []
    return [index for index, _ in pairs], [float(np.float32(weight)) for _, weight in pairs]


def expression(where: Filter) -> str:
    """All in hexadecimal and numbers: nothing of the user's stands in it as it was written."""
    return " and ".join(_condition(one) for one in where)


def _condition(condition: Condition) -> str:
    if condition.operator == "=":
        return _any_of(equal_keys(condition))
    if condition.operator == "!=":
        return f"(not {_any_of(equal_keys(condition))})"
    field = field_key(condition.field)
    kinds = [_any_of(truths_in_order(condition, ORDERS[condition.operator]))]
    for value in condition.values:
        if isinstance(value, str):
            kinds.append(f'{ORDERED}["t{field}"] {condition.operator} "{text_key(value)}"')
        elif not isinstance(value, bool):
            kinds.append(f'{ORDERED}["n{field}"] {condition.operator} {float(value)!r}')
    return f"({' or '.join(kinds)})"


def _any_of(keys: list[str]) -> str:
    return f"array_contains_any({EQUAL}, {json.dumps(keys or ['-'])})"


def _named(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {kind + field: value for field, value in values.items()}


def _size(value: Any) -> int:
    return len((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode())
