"""From rows of one query with its positives and negatives to a collection with ids, qrels and splits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bessemer.errors import DataError, Problem
from bessemer.formats.lines import hash_id
from bessemer.formats.loaded import Loaded, Notes, inspect
from bessemer.formats.splits import judged_by_name, split_judged, with_dev
from bessemer.types import Collection, HardNegatives, Judged, Passage, Query


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row. Scores and ids, where given, are as long as their texts; teacher_scores: pos, then neg."""

    line: int
    query: str
    pos: tuple[str, ...] = ()
    neg: tuple[str, ...] = ()
    pos_scores: tuple[float, ...] | None = None
    neg_scores: tuple[float, ...] | None = None
    pos_ids: tuple[str, ...] | None = None
    neg_ids: tuple[str, ...] | None = None
    teacher_scores: tuple[float, ...] | None = None
    query_id: str | None = None
    task: str = ""
    prompt: str = ""
    type: str = ""
    answers: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    split: str = ""  # where the source has splits of its own; else all rows are split by their positives


@dataclass
class _Entry:
    """What all rows of one query say together."""

    first: Row
    answers: dict[str, None] = field(default_factory=dict)
    positives: dict[str, float] = field(default_factory=dict)  # passage_id -> score or nan, as the next two
    negatives: dict[str, float] = field(default_factory=dict)
    teacher: dict[str, float] = field(default_factory=dict)


def collection_from_rows(
    rows: Iterable[Row], file: str, problems: list[Problem], notes: Notes, *, seed: int, require: Sequence[str]
) -> Loaded:
    """Merge rows of the same query, gather the corpus (the union of pos and neg) and split by clusters of positives.

    An id is the given one or a hash of the text. A query without a positive (teacher scores alone) goes to train.
    Raises DataError with ``problems`` and whatever else is found.
    """
    passages: dict[str, Passage] = {}
    entries: dict[str, _Entry] = {}
    for row in rows:
        _add_row(row, file, entries, passages, problems, notes)
    if not entries and not problems:
        problems.append(Problem(file, None, "", "no rows", "give at least one query with a positive"))
    splits = {} if problems else _splits(entries, seed, notes)
    if not problems:
        fix = "give more rows, or a BEIR folder with its own splits"
        problems += [Problem(file, None, "", f"too few rows for a {s} split", fix) for s in require if s not in splits]
    if problems:
        raise DataError(problems)
    collection = Collection(Path(file).stem, tuple(passages.values()), splits)
    negatives = _negatives(entries, notes)
    inspect(collection, notes)
    return Loaded(
        collection=collection,
        warnings=notes.warnings(),
        counts=dict(notes.counts),
        negatives=negatives,
        teacher_scores={query_id: entry.teacher for query_id, entry in entries.items() if entry.teacher},
        prompts={query_id: entry.first.prompt for query_id, entry in entries.items() if entry.first.prompt},
        types={query_id: entry.first.type for query_id, entry in entries.items() if entry.first.type},
    )


def _add_row(
    row: Row,
    file: str,
    entries: dict[str, _Entry],
    passages: dict[str, Passage],
    problems: list[Problem],
    notes: Notes,
) -> None:
    query_id = row.query_id or (f"{row.split}-" if row.split else "") + hash_id("\n".join((*row.history, row.query)))
    entry = entries.setdefault(query_id, _Entry(row))
    if entry.first is not row:
        notes.add("merged_rows", "{n} rows repeat the query of an earlier row and were merged with it")
        for column in ("query", "task", "split"):
            if getattr(entry.first, column) != getattr(row, column):
                message = f"query {query_id!r} has another {column} on line {entry.first.line}"
                problems.append(Problem(file, row.line, column, message, "give each its own query_id"))
        if (entry.first.prompt, entry.first.type) != (row.prompt, row.type):
            notes.add("other_prompt", "{n} merged rows have another prompt or type: the first was kept")
    entry.answers.update(dict.fromkeys(row.answers))
    texts = (*row.pos, *row.neg)
    given = (*(row.pos_ids or [""] * len(row.pos)), *(row.neg_ids or [""] * len(row.neg)))
    ids = [passage_id or hash_id(text) for passage_id, text in zip(given, texts, strict=True)]
    for position, (passage_id, text) in enumerate(zip(ids, texts, strict=True)):
        known = passages.setdefault(passage_id, Passage(passage_id, passage_id, text, end=len(text)))
        if known.text != text:
            column = "pos_ids" if position < len(row.pos) else "neg_ids"
            message = f"passage {passage_id!r} had another text before"
            problems.append(Problem(file, row.line, column, message, "give each text its own id"))
    n_pos = len(row.pos)
    entry.positives |= _scored(ids[:n_pos], row.pos_scores)
    entry.negatives |= _scored(ids[n_pos:], row.neg_scores)
    if row.teacher_scores is not None:
        entry.teacher |= dict(zip(ids, row.teacher_scores, strict=True))


def _scored(ids: Sequence[str], scores: Sequence[float] | None) -> dict[str, float]:
    return dict(zip(ids, scores or [math.nan] * len(ids), strict=True))


def _splits(entries: dict[str, _Entry], seed: int, notes: Notes) -> dict[str, Judged]:
    notes.add(
        "no_gold_positive",
        "{n} queries have teacher scores and no positive: all in train",
        sum(not entry.positives for entry in entries.values()),
    )
    queries = {query_id: _query(query_id, entry) for query_id, entry in entries.items()}
    qrels = {query_id: dict.fromkeys(entry.positives, 1) for query_id, entry in entries.items()}
    if any(entry.first.split for entry in entries.values()):
        names = {query_id: entry.first.split for query_id, entry in entries.items()}
        return with_dev(judged_by_name(queries, qrels, names), seed, notes)
    return split_judged(queries, qrels, seed, notes)


def _query(query_id: str, entry: _Entry) -> Query:
    row = entry.first
    return Query(query_id, row.query, task=row.task, answers=tuple(entry.answers), history=row.history)


def _negatives(entries: dict[str, _Entry], notes: Notes) -> tuple[HardNegatives, ...]:
    result: list[HardNegatives] = []
    n_positive = 0
    for query_id, entry in entries.items():
        kept = {key: score for key, score in entry.negatives.items() if key not in entry.positives}
        n_positive += len(entry.negatives) - len(kept)
        if kept:
            positive_scores = {key: score for key, score in entry.positives.items() if not math.isnan(score)}
            result.append(HardNegatives(query_id, tuple(kept), tuple(kept.values()), positive_scores, "given"))
    notes.add("negatives_that_are_positives", "{n} negatives are positives of the same query: left out", n_positive)
    return tuple(result)
