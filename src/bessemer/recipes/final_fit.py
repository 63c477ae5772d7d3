"""After a `ship`: the same training on all judged queries, since a company searches all of its passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.llm.client import Client
from bessemer.negatives import mine_hard_negatives
from bessemer.recipes.data import Material, mining_of, open_reranker
from bessemer.recipes.soft_labels import KeepingTeacher, training_data
from bessemer.recipes.tasks import with_task_prompts
from bessemer.training.finetune import TrainingReport, discard_checkpoints
from bessemer.training.refit import Chosen, refit
from bessemer.types import Judged
from bessemer.workspace import Workspace


@dataclass(frozen=True)
class FinalFit:
    model: Path
    account: Mapping[str, Any]


def fit_on_everything(
    config: Config,
    workspace: Workspace,
    material: Material,
    measured: TrainingReport,
    base: DenseEncoder,
    llm: Client | None = None,
    teacher: KeepingTeacher | None = None,
) -> FinalFit:
    """Mine and train on train, dev, test and further slices together; the verdict is inherited, and says so."""
    judged = merged(list(material.collection.splits.values()))
    passages = material.collection.passages
    cached = CachedEncoder(base, workspace.root / "embeddings")
    asked = (judged, passages, cached, mining_of(config), config.seed, open_reranker(config))
    mined = workspace.step("final-negatives", mine_hard_negatives, *asked)
    chosen = Chosen.of(measured, n_pairs(material.collection.splits["train"]))
    data, labels = training_data(config, workspace, judged, passages, mined.negatives, llm, teacher)
    prompted = with_task_prompts(base, (config.task,), config)
    final = workspace.step(
        "final-model", refit, [data], prompted, chosen, config.finetune, config.seed, config.trust_remote_code
    )
    discard_checkpoints(final)
    of_teacher = f" Of its teacher: {'; '.join(labels.notes)}." if labels.notes else ""
    account = {
        "queries": len(judged.queries),
        "examples": final.report.examples,
        "steps": final.report.steps,
        "alpha": chosen.alpha,
        "note": "model/ was trained once more on all judged queries with the settings chosen before. Its verdict is "
        f"inherited from the model that the table measures; no query is left to measure this one on.{of_teacher}",
    }
    return FinalFit(final.model, account)


def merged(splits: Sequence[Judged]) -> Judged:
    """All queries and judgements; of a query in several splits the first is kept, with all its judgements."""
    queries = {query.query_id: query for judged in reversed(splits) for query in judged.queries}
    qrels: dict[str, dict[str, int]] = {query_id: {} for query_id in queries}
    for judged in splits:
        for query_id, grades in judged.qrels.items():
            qrels.setdefault(query_id, {}).update(grades)
    return Judged(tuple(queries.values()), qrels)


def n_pairs(judged: Judged) -> int:
    """Training examples: judged relevant (query, passage) pairs."""
    return sum(grade > 0 for grades in judged.qrels.values() for grade in grades.values())
