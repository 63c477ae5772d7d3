"""A table of generated questions for a person who knows the subject: accept, edit or reject."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bessemer.errors import ConfigError, DataError, Problem
from bessemer.formats.lines import MAX_LINE_BYTES, atomic_writer
from bessemer.questions.generate import Draft
from bessemer.types import Filtered, Passage

STAGE = "review"
COLUMNS = ("id", "split", "question", "decision", "edited question", "evidence", "passage_id", "passage")
DECISIONS = ("accept", "edit", "reject")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would run; a document could bring it."""


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: str  # accept | edit | reject | "" where nobody has decided
    edited: str = ""


def write_review(drafts: Sequence[Draft], passages: Mapping[str, Passage], file: str | Path) -> None:
    """One row per question, with the passage that answers it and an empty decision; atomically, since half of them
    would be read as all. Raises ConfigError where ``file`` cannot be written, or is there."""
    if Path(file).exists():
        raise ConfigError(f"--review {file}: cannot be written (it is there already); choose another file")
    with atomic_writer(file) as stream:
        stream.write("\ufeff")  # tells spreadsheets the encoding
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for draft in drafts:
            texts = "\n\n".join(passages[passage_id].indexed_text for passage_id in draft.passage_ids)
            row = (draft.query_id, draft.split, draft.text, "", "", draft.evidence or "")
            writer.writerow([_harmless(cell) for cell in (*row, " ".join(draft.passage_ids), texts)])


def read_review(file: str | Path) -> dict[str, Decision]:
    """Decisions by question id. Raises DataError with every row that cannot be understood."""
    problems: list[Problem] = []
    decisions: dict[str, Decision] = {}
    csv.field_size_limit(MAX_LINE_BYTES)  # as long as a passage may be, where csv reads 131,072 characters
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in ("id", "decision", "edited question") if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError([_problem(file, 1, missing[0], "the column is missing", "keep the columns as written")])
            for row in reader:
                query_id, question = _as_written(row["id"] or ""), _as_written(row.get("question") or "")
                decision = Decision((row["decision"] or "").strip().lower(), _as_written(row["edited question"] or ""))
                fault = _fault(decision, question)
                if query_id and query_id in decisions:
                    fault = "id", f"{query_id} stands above already", "keep one row of each question"
                if fault:
                    problems.append(_problem(file, reader.line_num, *fault))
                decisions[query_id] = decision
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"cannot be read ({error})"
        raise DataError([_problem(file, None, "", message, "save it as CSV in UTF-8")]) from None
    if problems:
        raise DataError(problems)
    return decisions


def reviewed(drafts: Sequence[Draft], decisions: Mapping[str, Decision]) -> Filtered[Draft]:
    """What a person accepted, in the words of the person where these are others."""
    kept, dropped = [], []
    for draft in drafts:
        decision = decisions.get(draft.query_id, Decision(""))
        if decision.verdict == "accept":
            kept.append(draft)
        elif decision.verdict == "edit":
            kept.append(replace(draft, text=decision.edited))
        else:
            dropped.append(draft.dropped(STAGE, "rejected" if decision.verdict else "nobody has decided"))
    return Filtered(tuple(kept), tuple(dropped))


def n_without_draft(drafts: Sequence[Draft], decisions: Mapping[str, Decision]) -> int:
    """How many questions a person accepted or edited that are not among ``drafts``."""
    ids = {draft.query_id for draft in drafts}
    return sum(one.verdict in ("accept", "edit") and query_id not in ids for query_id, one in decisions.items())


def _fault(decision: Decision, question: str) -> tuple[str, str, str] | None:
    if decision.verdict not in ("", *DECISIONS):
        return "decision", f"{decision.verdict!r} is no decision", "write accept, edit or reject, or leave it empty"
    if decision.verdict == "edit" and not decision.edited.strip():
        return "edited question", "is empty", "write the question, or accept or reject it as it is"
    if decision.verdict == "accept" and decision.edited not in ("", question):
        return "edited question", "is another than the one that is accepted", "write edit as the decision, or clear it"
    return None


def _problem(file: str | Path, line: int | None, field: str, message: str, fix: str) -> Problem:
    return Problem(str(file), line, field, message, fix)


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _as_written(cell: str) -> str:
    cell = cell.strip()
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
