"""A teacher's scores of what was mined: of every train query its positives and hard negatives."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bessemer.config import Config, TeacherConfig
from bessemer.errors import ConfigError, DataError, Problem
from bessemer.llm.client import Client
from bessemer.llm.completions import CompletionsModel
from bessemer.llm.ledger import Ledger, Usage, total_account
from bessemer.recipes.data import guide_of, miner_of
from bessemer.recipes.teacher import GENERATED, SCORES, reference_answers, score_pairs
from bessemer.recipes.teachers import LikelihoodTeacher, Pair, Teacher, open_teacher, template_for
from bessemer.score_cache import ScoreCache
from bessemer.training.batches import TrainingData
from bessemer.training.losses import FOR_TEACHERS
from bessemer.types import HardNegatives, Judged, Passage
from bessemer.workspace import Workspace

logger = logging.getLogger("bessemer")


@dataclass(frozen=True)
class SoftLabels:
    """query_id -> {passage_id: score}, and how they came to be; ``account["llm"]``: what an endpoint was asked."""

    scores: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]
    account: Mapping[str, Any]


@dataclass(frozen=True)
class Answered:
    """Queries with reference answers; ``llm``: what the language model was asked for them, {} where nothing;
    ``n_generated``: how many answers it wrote."""

    judged: Judged
    llm: Mapping[str, Any]
    n_generated: int = 0


class KeepingTeacher:
    """A teacher whose scores are kept in the workspace, for a step. ``calls``: an account of each step that asked an
    endpoint for its sake, now or when the step was done."""

    def __init__(self, teacher: Teacher, cache: Path) -> None:
        self.teacher = teacher
        self.cache = cache
        self.calls: list[Mapping[str, Any]] = []

    @property
    def fingerprint(self) -> str:
        return self.teacher.fingerprint

    @property
    def needs_answers(self) -> bool:
        return isinstance(self.teacher, LikelihoodTeacher)

    @property
    def ledger(self) -> Ledger | None:
        """Of the endpoint that it asks, if any."""
        model = self.teacher.model if isinstance(self.teacher, LikelihoodTeacher) else None
        return model.ledger if isinstance(model, CompletionsModel) else None


def teacher_of(config: Config, llm: Client | None) -> KeepingTeacher | None:
    """The teacher of ``config.teacher`` where the loss learns from one; an endpoint spends from the budget of ``llm``.
    Says what was given for nothing. Raises ConfigError where none is named."""
    for note in unused(config):
        logger.warning("%s", note)
    if config.finetune.loss not in FOR_TEACHERS:
        return None
    if config.teacher.model is None and config.llm.url is None:
        raise ConfigError(
            f"finetune.loss: `{config.finetune.loss}` learns from a teacher; give --teacher cross-encoder and "
            "--teacher-model NAME_OR_FOLDER (docs/teacher.md)"
        )
    teacher = open_teacher(config, llm.ledger if llm else None)
    return KeepingTeacher(teacher, config.workspace_folder / SCORES)


def unused(config: Config) -> list[str]:
    """Options of a language model and of a teacher that do nothing in this run."""
    learns = config.finetune.loss in FOR_TEACHERS
    asks_questions = config.source is not None and config.questions.strategy != "extract"
    notes = []
    if config.teacher != TeacherConfig() and not learns:
        notes.append(f"--teacher is not used: --loss is none that learns from one ({', '.join(sorted(FOR_TEACHERS))})")
    if config.llm.url and not asks_questions and not (learns and config.teacher.kind == "llm"):
        notes.append("--llm is not asked: no questions are to be written, and no answers for a teacher")
    return notes


def training_data(
    config: Config,
    workspace: Workspace,
    judged: Judged,
    passages: Sequence[Passage],
    negatives: Sequence[HardNegatives],
    llm: Client | None,
    teacher: KeepingTeacher | None,
) -> tuple[TrainingData, SoftLabels]:
    """What training takes: judged queries and mined negatives, a miner and a guide where they are asked for, and what
    the teacher says of the candidates, found in steps of the workspace; no labels without a teacher."""
    labels = SoftLabels({}, (), {})
    if teacher:
        answered = (
            workspace.step("answers", with_reference_answers, judged, passages, llm)
            if teacher.needs_answers
            else Answered(judged, {})
        )
        labels = workspace.step("teacher", soft_labels, answered.judged, passages, negatives, config.task, teacher)
        if teacher.needs_answers:
            labels = _with_generated(labels, answered.n_generated)
        teacher.calls += [calls for calls in (answered.llm, labels.account.get("llm")) if calls]
    miner, guide = miner_of(config, judged, passages), guide_of(config, workspace.root / "embeddings")
    data = TrainingData(judged, passages, negatives, miner, guide=guide, teacher_scores=labels.scores)
    return data, labels


def _with_generated(labels: SoftLabels, n: int) -> SoftLabels:
    notes = (f"{n} answers were written by a language model for the teacher to weigh", *labels.notes)
    return replace(labels, notes=notes if n else labels.notes, account={**labels.account, GENERATED: n})


def all_calls(of_questions: Mapping[str, Any], model: str, for_teacher: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The report's account of the language model: what it was asked for questions, {} where for none, and for the
    teacher together."""
    accounts = [account for account in (of_questions, *for_teacher) if account]
    return {"model": model, **of_questions, **total_account(accounts)}


def with_reference_answers(train: Judged, passages: Sequence[Passage], llm: Client | None) -> Answered:
    """Queries without an answer get one that the language model writes from their positives, where one is there to
    ask: a likelihood needs an answer to be of."""
    texts = {passage.passage_id: passage.indexed_text for passage in passages}
    shown = {}
    for query in (query for query in train.queries if not query.answers):
        grades = train.qrels.get(query.query_id, {})
        known = [texts[p] for p, grade in grades.items() if grade > 0 and p in texts]
        if known:
            shown[query] = known
    if llm is None or not shown:
        return Answered(train, {})
    before = llm.ledger.usage
    answers = reference_answers([(query.searched_text, known) for query, known in shown.items()], llm)
    found = {query.query_id: answer for query, answer in zip(shown, answers, strict=True)}
    queries = tuple(replace(q, answers=(found[q.query_id],)) if found.get(q.query_id) else q for q in train.queries)
    n_generated = sum(bool(answer) for answer in found.values())
    return Answered(Judged(queries, train.qrels), llm.ledger.account(since=before), n_generated)


def soft_labels(
    train: Judged, passages: Sequence[Passage], negatives: Sequence[HardNegatives], task: str, teacher: KeepingTeacher
) -> SoftLabels:
    """Scores of every train query's positives and mined negatives. What cannot be scored has no score, and is counted.
    Raises DataError where nothing can."""
    texts = {passage.passage_id: passage.indexed_text for passage in passages}
    mined = {row.query_id: row.passage_ids for row in negatives}
    wanted: dict[tuple[str, str], Pair] = {}
    n_silent = 0
    for query in train.queries:
        if teacher.needs_answers and not query.answers:
            n_silent += 1
            continue
        own_task = task or query.task
        asked = template_for(own_task).query(query.text, query.history)
        positives = (p for p, grade in train.qrels.get(query.query_id, {}).items() if grade > 0)
        for passage_id in dict.fromkeys((*positives, *mined.get(query.query_id, ()))):
            if passage_id in texts:
                wanted[query.query_id, passage_id] = Pair(asked, texts[passage_id], query.answers, own_task)
    if not wanted:
        fix = "give --llm, which writes them, or choose --teacher cross-encoder or embedder"
        raise DataError([Problem("train", None, "answers", "no query has one for the teacher to weigh", fix)])
    keys = {pair: teacher.teacher.key(pair) for pair in wanted.values()}
    before = teacher.ledger.usage if teacher.ledger else Usage()
    with ScoreCache(teacher.cache) as cache:
        found, n_kept = score_pairs(teacher.teacher, keys, cache)
    scores: dict[str, dict[str, float]] = {}
    faults = 0
    for (query_id, passage_id), pair in wanted.items():
        score = found[keys[pair]]
        faults += bool(score.fault)
        if not score.fault:
            scores.setdefault(query_id, {})[passage_id] = score.value
    counts = {
        "train queries have no answer, and so no teacher scores": n_silent,
        "candidates could not be scored by the teacher": faults,
        "candidates were longer than the teacher reads: their passages were cut": sum(s.is_cut for s in found.values()),
    }
    account = {
        "teacher": teacher.fingerprint,
        "pairs": len(found),
        "kept_from_before": n_kept,
        **({"llm": teacher.ledger.account(since=before)} if teacher.ledger else {}),
    }
    return SoftLabels(scores, tuple(f"{n} {what}" for what, n in counts.items() if n), account)
