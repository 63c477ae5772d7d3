"""The tasks of one training: several datasets, or the tasks that the queries of one name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bessemer.config import Config
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.prompts import TASKS, Prompts
from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError, DataError, Problem
from bessemer.recipes.data import Material, load_judged
from bessemer.recipes.pairs import PairMaterial, holds_pairs, load_pairs
from bessemer.training.losses import FOR_TEACHERS
from bessemer.training.teacher_scores import score_problems
from bessemer.types import Collection, Judged


@dataclass(frozen=True)
class Part:
    """What one task brings to a training. ``config``: the run's, with the task's own data and settings."""

    name: str
    task: str
    config: Config
    material: Material | PairMaterial


def load_parts(config: Config) -> list[Part]:
    """The tasks of ``config.tasks``, else those that the queries of ``config.data`` name; one without a name where
    there are none. Raises ConfigError for tasks without prompts or with settings that do not go together, DataError for
    bad data."""
    if not config.tasks:
        return _by_task(config, _load(config))
    names = [task.title for task in config.tasks]
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise ConfigError(f"tasks: {', '.join(twice)} stands twice; give each a `name` of its own")
    for task in config.tasks:
        require_prompts(task.task, config)
    settings = [task.settings(config.finetune) for task in config.tasks]  # refused before anything is read
    parts = []
    for task, own in zip(config.tasks, settings, strict=True):
        part = config.model_copy(update={"data": task.data, "columns": task.columns, "finetune": own})
        parts.append(Part(task.title, task.task, part, _load(part)))
    return parts


def require_teacher_scores(parts: Sequence[Part]) -> None:
    """Raises DataError, before anything is mined or encoded, for parts whose loss learns from scores they lack."""
    problems: list[Problem] = []
    for part in parts:
        loss = part.config.finetune.loss
        if loss in FOR_TEACHERS and isinstance(part.material, Material):
            train = part.material.collection.splits["train"]
            where = f"{part.config.data} ({part.name})" if len(parts) > 1 else str(part.config.data)
            problems += score_problems(train, part.material.teacher_scores, loss, where)
    if problems:
        raise DataError(problems)


def _load(config: Config) -> Material | PairMaterial:
    return load_pairs(config) if holds_pairs(config.data) else load_judged(config, require=("train",))


def _by_task(config: Config, material: Material | PairMaterial) -> list[Part]:
    """One part where ``config.task`` or all queries name one task, or of pairs; else a part for each that queries
    name."""
    if isinstance(material, PairMaterial):
        require_prompts(config.task, config)
        return [Part("", config.task, config, material)]
    tasks = sorted({query.task for query in material.collection.splits["train"].queries})
    if config.task or len(tasks) == 1:
        require_prompts(config.task, config)
        return [Part("", config.task or tasks[0], config, material)]
    return [Part(task or "no task", task, config, _of_task(material, task)) for task in tasks]


def unused_tasks(train: Judged, config: Config) -> list[str]:
    """A warning where queries name tasks and the run trains them all as one."""
    named = Counter(query.task for query in train.queries if query.task)
    if config.task or not named:
        return []
    found = ", ".join(f"{task} ({n})" for task, n in sorted(named.items()))
    what = "their prompts are not used" if len(named) == 1 else "they train together without prompts"
    return [f"train queries name tasks, {found}: {what}; give --task, or run finetune, which keeps tasks apart"]


def _of_task(material: Material, task: str) -> Material:
    """The queries of a task. Passages that only other tasks' queries are linked to are no candidates for its own."""
    collection = material.collection
    mine: set[str] = set()
    others: set[str] = set()
    for split in collection.splits.values():
        for query in split.queries:
            (mine if query.task == task else others).update(split.qrels.get(query.query_id, {}))
    ids = {q.query_id for split in collection.splits.values() for q in split.queries if q.task == task}
    for row in material.given_negatives:
        (mine if row.query_id in ids else others).update(row.passage_ids)
    foreign = others - mine
    passages = tuple(p for p in collection.passages if p.passage_id not in foreign)
    splits = {name: _queries_of(judged, task) for name, judged in collection.splits.items()}
    negatives = tuple(row for row in material.given_negatives if row.query_id in ids)
    scores = {query_id: own for query_id, own in material.teacher_scores.items() if query_id in ids}
    account = {
        **material.account,
        "passages": len(passages),
        "queries": {name: len(judged.queries) for name, judged in splits.items()},
    }
    return replace(
        material,
        collection=Collection(collection.name, passages, splits),
        given_negatives=negatives,
        teacher_scores=scores,
        account=account,
    )


def _queries_of(judged: Judged, task: str) -> Judged:
    queries = tuple(query for query in judged.queries if query.task == task)
    return Judged(queries, {q.query_id: judged.qrels[q.query_id] for q in queries if q.query_id in judged.qrels})


def known_prompts(config: Config) -> Mapping[str, Prompts]:
    """The user's own before those of the papers."""
    own = {name: Prompts(prompts.query, prompts.passage) for name, prompts in config.prompts.items()}
    return {**TASKS, **own}


def require_prompts(task: str, config: Config) -> None:
    known = known_prompts(config)
    if task and task not in known:
        raise ConfigError(f"task {task}: no such task; known: {', '.join(known)}. Add your own under `prompts`")


def with_task_prompts(encoder: Trainable, tasks: Sequence[str], config: Config) -> Trainable:
    """``encoder`` with the prompts of these tasks; the only task's become its own, which it uses unasked. A model that
    is not dense keeps its own."""
    if not isinstance(encoder, DenseEncoder):
        return encoder
    known = known_prompts(config)
    prompted = encoder.with_prompts({task: known[task] for task in tasks if task in known})
    return prompted.for_task(tasks[0]) if len(tasks) == 1 else prompted


def unprompted(parts: Sequence[Part], config: Config, encoder: Trainable) -> list[str]:
    """Notes on tasks that the data name and nobody has prompts for, or whose prompts the model does not take."""
    known = known_prompts(config)
    if not isinstance(encoder, DenseEncoder):
        own = sorted({part.task for part in parts if part.task in known})
        return [f"task {name}: its prompts were not used, {encoder.name} has its own" for name in own]
    names = sorted({part.task for part in parts if part.task and part.task not in known})
    return [f"task {name}: no prompts are known for it, the model's own were used" for name in names]
