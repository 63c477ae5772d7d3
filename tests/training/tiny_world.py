"""A world in the words of the tiny models: query i shares no word with its passage, so that all has to be learnt."""

from __future__ import annotations

from bessemer.training.dev_pool import EvaluationPool
from bessemer.types import HardNegatives, Judged, Passage, Query

N_PAIRS = 20


def passages() -> tuple[Passage, ...]:
    return tuple(Passage(f"p{i}", f"d{i}", f"w{50 + i} w{100 + i % 3}") for i in range(N_PAIRS))


def train() -> Judged:
    queries = tuple(Query(f"q{i}", f"w{i} w{120 + i % 5}") for i in range(N_PAIRS))
    return Judged(queries, {f"q{i}": {f"p{i}": 1} for i in range(N_PAIRS)})


def negatives(n_candidates: int = 6) -> tuple[HardNegatives, ...]:
    """Candidates from which each epoch draws."""
    return tuple(
        HardNegatives(
            f"q{i}",
            tuple(f"p{(i + j) % N_PAIRS}" for j in range(1, n_candidates + 1)),
            (0.5,) * n_candidates,
            {},
            "given",
            (1 / n_candidates,) * n_candidates,
        )
        for i in range(N_PAIRS)
    )


def dev_queries() -> Judged:
    queries = tuple(Query(f"dev{i}", f"w{i} w{130 + i % 4}") for i in range(N_PAIRS))
    return Judged(queries, {f"dev{i}": {f"p{i}": 1} for i in range(N_PAIRS)})


def dev_pool() -> EvaluationPool:
    judged = dev_queries()
    return EvaluationPool(judged.queries, judged.qrels, passages(), "20 dev queries over 20 passages")
