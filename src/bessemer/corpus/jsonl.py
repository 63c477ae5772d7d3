"""JSONL records as documents: ``text`` and optionally ``id`` (or ``_id``) and ``title``."""

from __future__ import annotations

from pathlib import Path

from bessemer.corpus.content import Content
from bessemer.errors import Problem
from bessemer.formats.lines import Fields, read_jsonl


def read_records(path: Path, file_id: str, problems: list[Problem]) -> list[tuple[str, Content]]:
    """(document id, content) of every record; faults are appended to ``problems``.

    The id is ``path#id``, or ``path:line`` of a record without one, which no other record can have.
    """
    records: list[tuple[str, Content]] = []
    first_line: dict[str, int] = {}
    for number, values in read_jsonl(path, problems):
        fields = Fields(str(path), number, values, problems)
        text = fields.text("text")
        title = fields.text("title", optional=True)
        key = "_id" if "_id" in values else "id"
        given = fields.identifier(key) if key in values else ""
        if text is None or title is None or given is None:
            continue
        if given in first_line:
            fields.fault(key, f"{given!r} is already on line {first_line[given]}", "give every record its own id")
            continue
        if given:
            first_line[given] = number
        records.append((f"{file_id}#{given}" if given else f"{file_id}:{number}", Content(text, title)))
    return records
