"""A teacher's scores as training takes them: what is drawn from, what stands for a missing positive, what lacks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bessemer.errors import DataError, Problem
from bessemer.training.batches import Row, TrainingData
from bessemer.types import HardNegatives, Judged

FIX = "add scores with `bessemer teacher`, or choose another --loss"


@dataclass(frozen=True)
class TeacherScores:
    """``by_query``: per query, the scores of passages by position in the corpus; empty where there are none.

    ``data``: the training data with scored passages as negatives to draw from (other positives among them), and the
    teacher's best as the positive of queries that have none.
    """

    data: TrainingData
    by_query: Sequence[Mapping[int, float]]
    n_best: int  # queries whose positive is the teacher's best
    n_unscored_negatives: int  # of queries with scores
    n_unknown: int  # scores of passages that the corpus lacks

    def notes(self) -> tuple[str, ...]:
        counts = {
            "queries have no relevant passage: the teacher's best candidate stands for it": self.n_best,
            "hard negatives of queries with teacher scores have none themselves and are not drawn": (
                self.n_unscored_negatives
            ),
            "teacher scores are of passages that the corpus lacks": self.n_unknown,
        }
        return tuple(f"{n} {what}" for what, n in counts.items() if n)

    def of(self, row: Row) -> dict[int, float]:
        """The scores of a row's passages, by position; none where the positive has none."""
        own = self.by_query[row.query]
        return {p: own[p] for p in (row.positive, *row.negatives) if p in own} if row.positive in own else {}

    def in_batch(self, rows: Sequence[Row], columns: Sequence[int]) -> dict[str, Tensor]:
        """Of a batch with passages ``columns`` (P,): ``candidates`` (B, K) and ``teacher`` (B, K) as the losses take
        them, and ``others`` (B, P), True for what the teacher scored but the row did not draw: it is in the batch by
        chance, and no negative that nobody has judged."""
        place = {passage: j for j, passage in enumerate(columns)}
        found = [self.of(row) for row in rows]
        width = max(1, max(map(len, found)))
        candidates = np.zeros((len(rows), width), dtype=np.int64)
        teacher = np.full((len(rows), width), -np.inf, dtype=np.float32)
        others = np.zeros((len(rows), len(columns)), dtype=bool)
        for i, (row, scores) in enumerate(zip(rows, found, strict=True)):
            candidates[i, : len(scores)] = [place[p] for p in scores]
            teacher[i, : len(scores)] = list(scores.values())
            drawn = {row.positive, *row.negatives}
            others[i, [place[p] for p in self.by_query[row.query] if p in place and p not in drawn]] = True
        parts = {"candidates": candidates, "teacher": teacher, "others": others}
        return {name: torch.from_numpy(part) for name, part in parts.items()}


def teacher_scores(data: TrainingData, loss: str) -> TeacherScores:
    """What ``data`` has for ``loss``. Raises DataError where no train query has scores, and for scores that are no
    numbers."""
    problems = score_problems(data.judged, data.teacher_scores, loss, f"train {data.name}".strip())
    if problems:
        raise DataError(problems)
    position = {passage.passage_id: i for i, passage in enumerate(data.passages)}
    given = {row.query_id: row for row in data.negatives}
    qrels: dict[str, Mapping[str, int]] = dict(data.judged.qrels)
    negatives: dict[str, HardNegatives] = dict(given)
    by_query: list[dict[int, float]] = []
    n_best = n_unscored = n_unknown = 0
    for query_id in (query.query_id for query in data.judged.queries):
        scores = data.teacher_scores.get(query_id, {})
        known = {passage_id: score for passage_id, score in scores.items() if passage_id in position}
        n_unknown += len(scores) - len(known)
        by_query.append({position[passage_id]: score for passage_id, score in known.items()})
        if not known:
            continue
        if query_id in given:
            n_unscored += len(set(given[query_id].passage_ids) - known.keys())
        alike = (1 / len(known),) * len(known)  # any of them: the teacher's scores say how hard it is
        negatives[query_id] = HardNegatives(query_id, tuple(known), tuple(known.values()), {}, "teacher", alike)
        if not any(grade > 0 and p in position for p, grade in qrels.get(query_id, {}).items()):
            best = max(known, key=lambda p: (known[p], -position[p]))
            qrels[query_id] = {**qrels.get(query_id, {}), best: 1}
            n_best += 1
    judged = Judged(data.judged.queries, qrels)
    settled = replace(data, judged=judged, negatives=tuple(negatives.values()), teacher_scores={})
    return TeacherScores(settled, by_query, n_best, n_unscored, n_unknown)


def score_problems(judged: Judged, scores: Mapping[str, Mapping[str, float]], loss: str, where: str) -> list[Problem]:
    """Why ``loss`` cannot learn from these scores of train queries; ``where`` names the data."""
    known = {query.query_id: own for query in judged.queries if (own := scores.get(query.query_id))}
    if not known:
        return [Problem(where, None, "teacher_scores", f"no train query has any, and `{loss}` learns from them", FIX)]
    damaged = [query_id for query_id, own in known.items() if not all(map(math.isfinite, own.values()))]
    if damaged:
        fix = "give finite numbers, or leave the query's scores out"
        return [Problem(where, None, f"teacher_scores of {q}", "hold what is no number", fix) for q in damaged]
    if all(len(set(own.values())) == 1 for own in known.values()):
        message = f"are the same for all passages of each query ({len(known)} queries): there is nothing to learn"
        return [Problem(where, None, "teacher_scores", message, FIX)]
    return []
