"""Rows under other column names: a mapping by dotted paths, and the column layouts of sentence-transformers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.errors import Problem
from bessemer.formats.lines import Fields, kind, read_jsonl, write_jsonl
from bessemer.formats.loaded import Loaded, Notes
from bessemer.formats.rows import Row, collection_from_rows
from bessemer.types import Judged, Passage

QUERY_NAMES = ("anchor", "query", "question")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row keeps what. A dotted path reaches into objects, and into each object of a list.

    A column may hold one text or a list of texts: a list of positives makes one query with several positives
    (``Columns("question", "context.contexts", answers="long_answer")`` for PubMedQA).
    """

    query: str
    positives: str
    negatives: tuple[str, ...] = ()
    answers: str | None = None
    query_id: str | None = None


def infer_columns(names: Iterable[str]) -> Columns | None:
    """The mapping of a sentence-transformers dataset (``anchor, positive[, negative or negative_1, ...]``), or None."""
    known = list(names)
    query = next((name for name in QUERY_NAMES if name in known), None)
    if query is None or "positive" not in known:
        return None
    negatives = [n for n in known if n == "negative" or (n.startswith("negative_") and n[9:].isdecimal())]
    return Columns(query, "positive", tuple(negatives), query_id="query_id" if "query_id" in known else None)


def read_columns(
    path: str | Path, columns: Columns | None = None, *, seed: int = 42, require: Sequence[str] = ()
) -> Loaded:
    """Read JSON lines by a column mapping, by default that of sentence-transformers.

    Rows of the same query are merged, as ``anchor, positive, negative`` triplets need. Raises DataError.
    """
    problems: list[Problem] = []
    rows: list[Row] = []
    for number, values in read_jsonl(path, problems):
        fields = Fields(str(path), number, values, problems)
        mapping = columns or infer_columns(values)
        if mapping is None:
            fields.fault(
                "", f"no anchor and positive among {', '.join(values) or 'no columns'}", "give a column mapping"
            )
        elif (row := map_row(fields, mapping)) is not None:
            rows.append(row)
    return collection_from_rows(rows, str(path), problems, Notes(), seed=seed, require=require)


def map_row(fields: Fields, columns: Columns, split: str = "") -> Row | None:
    """One row by the mapping; None when it holds a problem, which is reported."""
    n_before = len(fields.problems)
    queries = _texts(fields, columns.query)
    positives = _texts(fields, columns.positives)
    negatives = [text for path in columns.negatives for text in _texts(fields, path, optional=True) if text.strip()]
    answers = _texts(fields, columns.answers, optional=True) if columns.answers else []
    query_id = None
    if columns.query_id:
        holder = {columns.query_id: _reach(fields.values, columns.query_id.split("."))}
        query_id = Fields(fields.file, fields.line, holder, fields.problems).identifier(columns.query_id)
    if len(fields.problems) == n_before:
        if len(queries) != 1 or not queries[0].strip():
            fields.fault(columns.query, "is empty or a list", "give one query text per row")
        if not positives or not all(text.strip() for text in positives):
            fields.fault(columns.positives, "is empty or holds an empty text", "give at least one positive")
    if len(fields.problems) > n_before:
        return None
    return Row(
        line=fields.line or 0,
        query=queries[0],
        pos=tuple(positives),
        neg=tuple(negatives),
        query_id=query_id,
        answers=tuple(answer for answer in answers if answer.strip()),
        split=split,
    )


def write_columns(path: str | Path, judged: Judged, passages: Iterable[Passage]) -> int:
    """Write ``anchor, positive`` JSON lines, one per judged-relevant pair; returns their number."""
    texts = {passage.passage_id: passage.indexed_text for passage in passages}
    rows = [
        {"anchor": query.text, "positive": texts[passage_id]}
        for query in judged.queries
        for passage_id, grade in judged.qrels.get(query.query_id, {}).items()
        if grade > 0
    ]
    write_jsonl(path, rows)
    return len(rows)


def _texts(fields: Fields, path: str, *, optional: bool = False) -> list[str]:
    """The text or texts at a dotted path; [] after a reported fault, and for a missing optional one."""
    value = _reach(fields.values, path.split("."))
    if optional and (value is _MISSING or value is None):
        return []
    if value is _MISSING:
        fields.fault(path, f"is missing; columns: {', '.join(fields.values)}", "mend the column mapping")
        return []
    values = value if isinstance(value, list) else [value]
    wrong = [item for item in values if not isinstance(item, str)]
    if wrong:
        fields.fault(path, f"is {kind(wrong[0])}, not a text", "map a column of texts or lists of texts")
        return []
    return values


def _reach(value: Any, path: list[str]) -> Any:
    """What stands at ``path``; a list on the way is mapped over, and lists of lists are joined."""
    if isinstance(value, list):
        found = [_reach(item, path) for item in value] if path else value
        if any(item is _MISSING for item in found):
            return _MISSING
        return [part for item in found for part in (item if isinstance(item, list) else [item])]
    if not path:
        return value
    if not isinstance(value, dict) or path[0] not in value:
        return _MISSING
    return _reach(value[path[0]], path[1:])
