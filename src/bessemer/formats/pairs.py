"""Sentence pairs as tab-separated lines: ``a, b, score`` (STS), ``a, b, 0 or 1`` (labelled pairs), triplets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bessemer.errors import DataError, Problem
from bessemer.formats.lines import Fields, is_number, read_lines
from bessemer.formats.loaded import Loaded, Notes
from bessemer.formats.rows import Row, collection_from_rows


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two texts and how similar they are, on the scale of their file (0 to 5 for STS)."""

    left: str
    right: str
    score: float


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two texts that belong together or do not."""

    left: str
    right: str
    label: bool

    @property
    def score(self) -> float:
        """1 or 0."""
        return float(self.label)


@dataclass(frozen=True, slots=True)
class Triplet:
    anchor: str
    positive: str
    negative: str


JudgedPairs = tuple[ScoredPair, ...] | tuple[LabelledPair, ...]
Pairs = JudgedPairs | tuple[Triplet, ...]


def read_pairs(path: str | Path) -> Pairs:
    """Read three tab-separated columns; what they are is told by the third.

    Numbers make scored pairs, or labelled ones where all are 0 or 1; text makes triplets. A first line whose third
    column is text is a header when the lines below have numbers, or when it reads ``anchor positive negative``.
    Raises DataError with all problems.
    """
    problems: list[Problem] = []
    rows = list(_rows(path, problems))
    rows, numeric = _without_header(rows)
    if not rows and not problems:
        problems.append(Problem(str(path), None, "", "no pairs", "write a, b, score per line, separated by tabs"))
    scores = [_score(fields, columns[2]) if numeric else 0.0 for fields, columns in rows]
    if problems:
        raise DataError(problems)
    texts = [columns for _, columns in rows]
    if not numeric:
        return tuple(Triplet(*columns) for columns in texts)
    scored = [(left, right, score) for (left, right, _), score in zip(texts, scores, strict=True)]
    if set(scores) <= {0.0, 1.0}:
        return tuple(LabelledPair(left, right, score == 1.0) for left, right, score in scored)
    return tuple(ScoredPair(*row) for row in scored)


def collection_from_triplets(path: str | Path, *, seed: int = 42, require: Sequence[str] = ()) -> Loaded:
    """Triplets as a collection: anchors are queries. Scored or labelled pairs have no corpus: a DataError says so."""
    pairs = read_pairs(path)
    rows = [
        Row(line, item.anchor, (item.positive,), (item.negative,))
        for line, item in enumerate(pairs, start=1)
        if isinstance(item, Triplet)
    ]
    problems: list[Problem] = []
    if not rows:
        message = "scored or labelled sentence pairs are no collection to search"
        problems.append(
            Problem(
                str(path),
                None,
                "",
                message,
                "give triplets, BGE JSONL or a BEIR folder; finetune and evaluate take pairs",
            )
        )
    return collection_from_rows(rows, str(path), problems, Notes(), seed=seed, require=require)


def _rows(path: str | Path, problems: list[Problem]) -> Iterator[tuple[Fields, list[str]]]:
    for number, text in read_lines(path, problems):
        fields, columns = Fields(str(path), number, {}, problems), text.split("\t")
        if len(columns) != 3:
            fields.fault("", f"{len(columns)} columns where 3 belong", "separate a, b, score by tabs")
            continue
        for position, column in enumerate(columns, start=1):
            if not column.strip():
                fields.fault(f"column {position}", "is empty", "give the text or remove the line")
        yield fields, columns


def _without_header(rows: list[tuple[Fields, list[str]]]) -> tuple[list[tuple[Fields, list[str]]], bool]:
    """The rows below the header, and whether most of them end in a number."""
    body = rows[1:] or rows
    numeric = sum(is_number(columns[2]) for _, columns in body) * 2 > len(body)
    names = [column.strip().casefold() for column in rows[0][1]] if rows else []
    named = names == ["anchor", "positive", "negative"]
    header = len(rows) > 1 and (named or (numeric and not is_number(rows[0][1][2])))
    return (rows[1:] if header else rows), numeric


def _score(fields: Fields, text: str) -> float:
    score = float(text) if is_number(text) else math.nan
    if not math.isfinite(score):
        fields.fault("score", f"{text!r} is not a finite number", "give the score of the pair")
    return score
