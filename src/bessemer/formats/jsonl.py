"""BGE JSONL (FlagEmbedding) with the columns of LLM-Embedder (arXiv 2310.07554) and our ids.

Per line ``query, pos, neg[, pos_scores, neg_scores, prompt, type]``, ``answers, history, teacher_scores, task,
query_id``, ``pos_ids, neg_ids``. A missing ``neg``, ``[]`` and ``[""]`` mean no negatives; ``[""]`` is what we write.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bessemer.errors import Problem
from bessemer.formats.lines import Fields, read_jsonl, write_jsonl
from bessemer.formats.loaded import Loaded, Notes
from bessemer.formats.rows import Row, collection_from_rows
from bessemer.types import HardNegatives, Judged, Passage, Query

T = TypeVar("T")


def read_bge_jsonl(path: str | Path, *, seed: int = 42, require: Sequence[str] = ()) -> Loaded:
    """Read a BGE JSONL file (.jsonl or .json, one object per line) as a collection.

    The corpus is the union of pos and neg; splits are seeded by clusters of shared positives (about 80, 10, 10).
    Chat rows, which have neither pos nor neg, are scored turns: their ``history`` holds the candidates.
    Raises DataError with all problems.
    """
    problems: list[Problem] = []
    notes = Notes()
    rows = [row for fields in _lines(path, problems) if (row := read_row(fields, notes)) is not None]
    return collection_from_rows(rows, str(path), problems, notes, seed=seed, require=require)


def _lines(path: str | Path, problems: list[Problem]) -> Iterator[Fields]:
    for number, values in read_jsonl(path, problems):
        yield Fields(str(path), number, values, problems)


def read_row(fields: Fields, notes: Notes, *, to_score: bool = False) -> Row | None:
    """One line, checked; None when it holds a problem, which is reported.

    ``to_score``: a teacher is to score the candidates. They need no positive then, and the history of a row without
    pos and neg holds them; teacher scores that stand there already are not read.
    """
    n_before = len(fields.problems)
    query, query_id = fields.text("query"), fields.identifier("query_id", optional=True)
    pos, neg = fields.texts("pos") or (), fields.texts("neg") or ()
    history, answers = fields.texts("history") or (), fields.texts("answers") or ()
    teacher = None if to_score else fields.numbers("teacher_scores")
    pos_scores, neg_scores = fields.numbers("pos_scores"), fields.numbers("neg_scores")
    pos_ids, neg_ids = fields.identifiers("pos_ids"), fields.identifiers("neg_ids")
    task, prompt, type_ = (fields.text(name, optional=True) or "" for name in ("task", "prompt", "type"))
    if len(fields.problems) > n_before:
        return None
    n_turns = len(history), sum(bool(turn.strip()) for turn in history)
    if history and not pos and not neg and (to_score or len(teacher or ()) in n_turns):
        notes.add("history_candidates", "{n} rows without pos and neg: their history holds the candidates")
        neg, history = history, ()
    if not pos and not teacher and not (to_score and neg):
        fields.fault("pos", "is missing or empty", "give at least one positive, or teacher_scores")
    if query is not None and not query.strip() and query_id is None:
        fields.fault("query", "is empty", "give the query's text")
    _check_length(fields, "pos_scores", pos_scores, pos, "pos")
    _check_length(fields, "pos_ids", pos_ids, pos, "pos")
    for position, text in enumerate(pos):
        if not text.strip() and not pos_ids:
            fields.fault(f"pos[{position}]", "is empty", "give the positive's text")
    # An empty negative is no negative, unless an id vouches for it.
    kept = [i for i, text in enumerate(neg) if text.strip() or (neg_ids and len(neg_ids) == len(neg))]
    if neg and kept:
        notes.add("empty_negatives", "{n} empty negatives were left out", len(neg) - len(kept))
    given_answers = tuple(answer for answer in answers if answer.strip())
    notes.add("empty_answers", "{n} empty answers were left out", len(answers) - len(given_answers))
    n_pos = len(pos)
    if teacher is not None and len(teacher) != n_pos + len(kept):
        if len(teacher) != n_pos + len(neg):
            _check_length(fields, "teacher_scores", teacher, [*pos, *neg], "pos and neg together")
        else:
            teacher = teacher[:n_pos] + tuple(teacher[n_pos + i] for i in kept)
    neg_scores = _kept(fields, "neg_scores", neg_scores, kept, len(neg))
    neg_ids = _kept(fields, "neg_ids", neg_ids, kept, len(neg))
    if len(fields.problems) > n_before or query is None:
        return None
    return Row(
        line=fields.line or 0,
        query=query,
        pos=pos,
        neg=tuple(neg[i] for i in kept),
        pos_scores=pos_scores,
        neg_scores=neg_scores,
        pos_ids=pos_ids,
        neg_ids=neg_ids,
        teacher_scores=teacher or None,
        query_id=query_id,
        task=task,
        prompt=prompt,
        type=type_,
        answers=given_answers,
        history=history,
    )


def _check_length(fields: Fields, column: str, values: Sequence[object] | None, texts: Sequence[str], of: str) -> None:
    if values is not None and len(values) != len(texts):
        fields.fault(column, f"has {len(values)} values for {len(texts)} texts of {of}", "give one value per text")


def _kept(
    fields: Fields, column: str, values: tuple[T, ...] | None, kept: Sequence[int], n_texts: int
) -> tuple[T, ...] | None:
    """``values`` of the negatives that stay; they may be given for all texts or for those alone."""
    if values is None or len(values) == len(kept):
        return values
    if len(values) == n_texts:
        return tuple(values[i] for i in kept)
    fields.fault(column, f"has {len(values)} values for {n_texts} texts of neg", "give one value per text")
    return None


def write_bge_jsonl(
    path: str | Path,
    judged: Judged,
    passages: Iterable[Passage],
    negatives: Iterable[HardNegatives],
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> int:
    """Write one row per query that has a positive, with ids and scores, atomically; returns the number of rows.

    Texts are ``indexed_text``, what models read. Scores are null where the mining model gave none. ``columns`` are
    further ones by name, each query_id -> value: BGE's ``prompt`` and ``type``, as they were read.
    """
    texts = {passage.passage_id: passage.indexed_text for passage in passages}
    mined = {item.query_id: item for item in negatives}
    own = ("task", "answers", "history")
    optional = [name for name in own if any(getattr(query, name) for query in judged.queries)]
    rows = [
        _row(query, positives, texts, mined.get(query.query_id), optional)
        | {name: values[query.query_id] for name, values in (columns or {}).items() if query.query_id in values}
        for query in judged.queries
        if (positives := [p for p, grade in judged.qrels.get(query.query_id, {}).items() if grade > 0])
    ]
    write_jsonl(path, rows)
    return len(rows)


def _row(
    query: Query, positives: list[str], texts: Mapping[str, str], mined: HardNegatives | None, optional: list[str]
) -> dict[str, Any]:
    negatives = list(mined.passage_ids) if mined else []
    pos_scores = [mined.positive_scores.get(key, math.nan) if mined else math.nan for key in positives]
    row: dict[str, Any] = {
        "query": query.text,
        "pos": [texts[key] for key in positives],
        "neg": [texts[key] for key in negatives] or [""],
        "pos_scores": _finite(pos_scores),
        "neg_scores": _finite(mined.scores if mined else ()),
        "query_id": query.query_id,
        "pos_ids": positives,
        "neg_ids": negatives,
    }
    for name in optional:
        value = getattr(query, name)
        row[name] = list(value) if isinstance(value, tuple) else value
    return row


def _finite(scores: Sequence[float]) -> list[float] | None:
    return [float(score) for score in scores] if all(map(math.isfinite, scores)) else None
