"""TREC run files (``qid Q0 docid rank score tag``) and qrels (``qid 0 docid relevance``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from bessemer.errors import ConfigError, DataError, Problem
from bessemer.formats.lines import GRADE, Fields, atomic_writer, read_lines
from bessemer.types import Hits, Qrels, Run

_RUN_LINE = "write qid Q0 docid rank score tag"
_QRELS_LINE = "write qid 0 docid relevance"


def read_run(path: str | Path) -> Run:
    """Read a run; the rank column is ignored: order is by score, then by id, both descending, as trec_eval has it.

    The run is named by its tag, or else by the file. Raises DataError with all problems.
    """
    problems: list[Problem] = []
    results: dict[str, dict[str, float]] = {}
    name = ""
    for fields, columns in _columns(path, problems):
        if len(columns) not in (5, 6):
            fields.fault("", f"{len(columns)} columns where 6 belong", _RUN_LINE)
            continue
        query_id, _, passage_id, _, score, *tag = columns
        name = name or "".join(tag)
        hits = results.setdefault(query_id, {})
        if passage_id in hits:
            fields.fault("docid", f"{passage_id!r} stands twice for query {query_id!r}", "keep one of the two")
        try:
            hits[passage_id] = float(score)
        except ValueError:
            hits[passage_id] = math.nan
        if not math.isfinite(hits[passage_id]):
            fields.fault("score", f"{score!r} is not a finite number", "give the score of the hit")
    if problems:
        raise DataError(problems)
    return Run(name or Path(path).stem, {query_id: _ranked(hits.items()) for query_id, hits in results.items()})


def write_run(run: Run, path: str | Path) -> None:
    """Write a run with full-precision scores; spaces in its name become underscores.

    The format cannot say that a query found nothing: such a query has no line. Raises ConfigError for ids with spaces.
    """
    check_ids(path, (key for query_id, hits in run.results.items() for key in (query_id, *(hit[0] for hit in hits))))
    tag = "_".join(run.name.split()) or "run"
    with atomic_writer(path) as stream:
        for query_id, hits in run.results.items():
            for rank, (passage_id, score) in enumerate(_ranked(hits), start=1):
                stream.write(f"{query_id}\tQ0\t{passage_id}\t{rank}\t{float(score)!r}\t{tag}\n")


def read_qrels(path: str | Path) -> Qrels:
    """Read TREC qrels. Raises DataError with all problems."""
    problems: list[Problem] = []
    qrels: dict[str, dict[str, int]] = {}
    for fields, columns in _columns(path, problems):
        if len(columns) != 4:
            fields.fault("", f"{len(columns)} columns where 4 belong", _QRELS_LINE)
            continue
        query_id, _, passage_id, grade = columns
        if not GRADE.fullmatch(grade):
            fields.fault("relevance", f"{grade!r} is not an integer", "give 0 (not relevant), 1, 2, ...")
        elif qrels.setdefault(query_id, {}).setdefault(passage_id, int(grade)) != int(grade):
            fields.fault(
                "relevance", f"{query_id!r}, {passage_id!r} was judged otherwise before", "keep one of the two"
            )
    if problems:
        raise DataError(problems)
    return qrels


def write_qrels(qrels: Qrels, path: str | Path) -> None:
    """Write TREC qrels. Raises ConfigError for ids with spaces."""
    check_ids(path, (key for query_id, grades in qrels.items() for key in (query_id, *grades)))
    with atomic_writer(path) as stream:
        for query_id, grades in qrels.items():
            stream.writelines(f"{query_id}\t0\t{passage_id}\t{grade}\n" for passage_id, grade in grades.items())


def _columns(path: str | Path, problems: list[Problem]) -> Iterator[tuple[Fields, list[str]]]:
    for number, text in read_lines(path, problems):
        yield Fields(str(path), number, {}, problems), text.split()


def _ranked(hits: Iterable[tuple[str, float]]) -> Hits:
    return sorted(hits, key=lambda hit: (hit[1], hit[0]), reverse=True)


def check_ids(path: str | Path, ids: Iterable[str]) -> None:
    """Raises ConfigError where some of ``ids`` cannot be written to ``path``."""
    bad = sorted({key for key in ids if len(key.split()) != 1 or key.split()[0] != key})
    if bad:
        shown = ", ".join(map(repr, bad[:5]))
        raise ConfigError(f"{path}: {len(bad)} ids with spaces cannot stand in a TREC file: {shown}")
