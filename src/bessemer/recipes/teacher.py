"""Soft labels: a BGE JSONL file in, the same file with a teacher's score for every candidate out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bessemer.answers.answer import MAX_TOKENS, answer_request, read_answer, without_citations
from bessemer.config import Config
from bessemer.encoders.runtime import Progress
from bessemer.errors import ConfigError, DataError, Problem
from bessemer.formats.jsonl import read_row
from bessemer.formats.lines import Fields, read_jsonl, write_jsonl
from bessemer.formats.loaded import Notes
from bessemer.formats.rows import Row
from bessemer.llm.ledger import Ledger
from bessemer.llm.request import LLM, Reply
from bessemer.llm.templates import TEMPLATES, template_of
from bessemer.recipes.generated import open_llm
from bessemer.recipes.output import claim_file
from bessemer.recipes.teachers import Pair, Score, Teacher, cost_of, open_teacher, template_for
from bessemer.score_cache import KeptScore, ScoreCache

log = logging.getLogger("bessemer")

SCORES = "teacher-scores.sqlite"
"""In the workspace."""
COLUMN = "teacher_scores"
GENERATED = "answers_generated"
"""Column of rows whose answer no source gave: a language model wrote it."""


@dataclass(frozen=True)
class Candidates:
    """A line as it stands in the file, and its candidates in the order of their scores: ``n_positives`` of pos, then
    those of neg."""

    line: int
    values: Mapping[str, Any]
    pairs: tuple[Pair, ...]
    n_positives: int

    @property
    def positives(self) -> tuple[str, ...]:
        return tuple(pair.passage for pair in self.pairs[: self.n_positives])

    def answered(self, answer: str) -> Candidates:
        """The same with an answer that was written for it, flagged."""
        values = {**self.values, "answers": [answer], GENERATED: True}
        return replace(self, values=values, pairs=tuple(pair._replace(answers=(answer,)) for pair in self.pairs))


def teacher(config: Config, out: str) -> Mapping[str, Any]:
    """Score the candidates of ``config.data`` and write ``out``: its rows in their order with all their columns, and
    ``teacher_scores``. Returns counts, seconds and notes.

    A language model needs answers to weigh: where ``config.llm`` names one, it writes those that are missing, and they
    are flagged and counted. Raises DataError with all problems: of the file, rows that stay without an answer, and
    candidates that the teacher cannot score.
    """
    require_possible(config)
    claim_file(out, "--out")
    notes = Notes()
    rows = read_candidates(config, notes)
    ledger = None
    if config.teacher.kind == "llm":
        rows, ledger = _all_answered(rows, config)
    n_generated = sum(row.values.get(GENERATED) is True for row in rows)
    notes.add(
        GENERATED, f"{{n}} answers were written by a language model: their rows are flagged `{GENERATED}`", n_generated
    )
    judge = open_teacher(config, ledger)
    keys = {pair: judge.key(pair) for row in rows for pair in row.pairs}
    started = time.monotonic()
    with ScoreCache(config.workspace_folder / SCORES) as cache:
        scores, n_cached = score_pairs(judge, keys, cache)
    seconds = time.monotonic() - started
    found = {pair: scores[key] for pair, key in keys.items()}
    _require_scores(rows, found, str(config.data))
    n_cut = sum(score.is_cut for score in scores.values())
    notes.add("cut", "{n} candidates were longer than the teacher reads: their passages were cut", n_cut)
    write_jsonl(out, ({**row.values, COLUMN: [found[pair].value for pair in row.pairs]} for row in rows))
    return {
        "out": out,
        "teacher": config.teacher.kind,
        "rows": len(rows),
        "pairs": len(scores),
        "scored": len(scores) - n_cached,
        "cached": n_cached,
        "cut": n_cut,
        "seconds": seconds,
        GENERATED: n_generated,
        "notes": list(notes.warnings()),
        **({"llm": ledger.account()} if ledger else cost_of(judge)),
    }


def require_possible(config: Config) -> None:
    """Raises ConfigError without a file of rows, and for a task that has no template."""
    if config.data is None or Path(config.data).is_dir():
        raise ConfigError("teacher needs --data F.jsonl: a BGE JSONL file, such as `bessemer negatives` writes")
    if config.teacher.kind == "llm" and config.task:
        template_of(config.task)


def read_candidates(config: Config, notes: Notes) -> list[Candidates]:
    """The rows of ``config.data`` with what is to be scored. Raises DataError with all problems."""
    file, problems = str(config.data), list[Problem]()
    rows = []
    for number, values in read_jsonl(file, problems):
        fields = Fields(file, number, values, problems)
        row = read_row(fields, notes, to_score=True)
        if row is None:
            continue
        if config.teacher.kind == "llm" and not row.answers and not (row.pos and config.llm.url):
            fields.fault("answers", "is missing or empty: a language model weighs passages by an answer", _FIX)
        rows.append(Candidates(number, values, _pairs(row, config, notes), len(row.pos)))
    if not rows and not problems:
        problems.append(Problem(file, None, "", "no rows", "give at least one query with candidates"))
    if problems:
        raise DataError(problems)
    return rows


_FIX = (
    'give "answers": ["..."], or --llm URL, which writes them from the positives as `adapt --teacher llm` does; '
    "--teacher cross-encoder and embedder need none"
)


def _all_answered(rows: Sequence[Candidates], config: Config) -> tuple[list[Candidates], Ledger | None]:
    """``rows``, those without an answer with one by the model of ``config.llm``; and its ledger, where it was asked.
    Raises DataError with every row that stays without, and what asking raises."""
    silent = [row for row in rows if not row.pairs[0].answers]
    if not silent:
        return list(rows), None
    with open_llm(config) as llm:
        assert llm  # without one such rows are refused as they are read
        answers = reference_answers([(row.pairs[0].query, row.positives) for row in silent], llm)
    found = {row.line: answer for row, answer in zip(silent, answers, strict=True)}
    what = "is missing or empty, and the language model finds none in the positives"
    problems = [Problem(str(config.data), line, "answers", what, _FIX) for line, answer in found.items() if not answer]
    if problems:
        raise DataError(problems)
    return [row.answered(found[row.line]) if row.line in found else row for row in rows], llm.ledger


def reference_answers(asked: Sequence[tuple[str, Sequence[str]]], llm: LLM) -> list[str]:
    """What the model answers each question from its passages, without citations; "" where it finds no answer there.
    Raises what ``llm.ask`` raises."""
    replies = llm.ask([answer_request(question, passages) for question, passages in asked])
    n_cut = sum(not reply.is_whole for reply in replies)
    if n_cut:
        log.warning("%d of %d answers were cut at %d tokens and are taken as they are", n_cut, len(replies), MAX_TOKENS)
    return [answer_in(reply, len(passages)) for (_, passages), reply in zip(asked, replies, strict=True)]


def answer_in(reply: Reply, n_passages: int) -> str:
    return without_citations(read_answer(reply, n_passages).text)


def _pairs(row: Row, config: Config, notes: Notes) -> tuple[Pair, ...]:
    task = config.task or row.task
    if config.teacher.kind == "llm" and task and task not in TEMPLATES:
        notes.add("no_template", "{n} rows have a task without a template of its own: they were scored as qa")
    query = template_for(task).query(row.query, row.history)
    return tuple(Pair(query, passage, row.answers, task) for passage in (*row.pos, *row.neg))


def score_pairs(judge: Teacher, keys: Mapping[Pair, str], cache: ScoreCache) -> tuple[dict[str, Score], int]:
    """The score under each key, from ``cache`` where it is there; and how many were. What is scored is kept at once,
    faults are not."""
    scores = {key: Score(*kept) for key in keys.values() if (kept := cache.get(key))}
    n_cached = len(scores)
    left = {key: pair for pair, key in keys.items() if key not in scores}
    left_keys = list(left)
    progress = Progress(len(left), "scored {} pairs")
    for place, score in judge.score(list(left.values())):
        scores[left_keys[place]] = score
        if not score.fault:
            cache.put(left_keys[place], KeptScore(score.value, score.is_cut))
        progress.update(1)
    return scores, n_cached


def _require_scores(rows: Sequence[Candidates], found: Mapping[Pair, Score], file: str) -> None:
    """Raises DataError with the first fault of every row that has one."""
    problems = []
    for row in rows:
        fault = next((found[pair].fault for pair in row.pairs if found[pair].fault), None)
        if fault:
            fix = "mend or take out the row; what could be scored is kept"
            problems.append(Problem(file, row.line, "", f"cannot be scored: {fault}", fix))
    if problems:
        raise DataError(problems)
