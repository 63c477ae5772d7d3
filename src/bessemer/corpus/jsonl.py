"""JSONL records as documents: ``text`` and optionally ``id`` (or ``_id``) and ``title``."""

from __future__ import annotations

from pathlib import Path

from bessemer.corpus.content import Content
from bessemer.errors import Problem
from bessemer.formats.lines import Fields, read_jsonl


def read_records(path: Path, file_id: str, problems: list[Problem]) -> list[tuple[str, Content]]:
    """(document id, content) of every record; faults are appended to ``problems``.

    The id is ``path#id``; a record without one is named by its line number.
    """
    records: list[tuple[str, Content]] = []
    first_line: dict[str, int] = {}
    for number, values in read_jsonl(path, problems):
        fields = Fields(str(path), number, values, problems)
        text = fields.text("text")
        title = fields.text("title", optional=True)
        key = "_id" if "_id" in values else "id"
        record_id = fields.identifier(key) if key in values else str(number)
        if text is None or title is None or record_id is None:
            continue
        if record_id in first_line:
            fields.fault(
                key, f"{record_id!r} is already on line {first_line[record_id]}", "give every record its own id"
            )
            continue
        first_line[record_id] = number
        records.append((f"{file_id}#{record_id}", Content(text, title)))
    return records
