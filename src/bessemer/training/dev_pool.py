"""The fixed pool on which checkpoints and the interpolation share are chosen, so that choosing stays cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bessemer.config.finetune import Head
from bessemer.draws import digest
from bessemer.encoders.encoder import Encoder
from bessemer.errors import ArtifactError
from bessemer.measures import PRIMARY, per_query
from bessemer.processes import Processes
from bessemer.search.exact import ExactSearch
from bessemer.search.ranking import tie_priority
from bessemer.training.lane_ranking import best_of_lanes
from bessemer.types import Hits, Judged, Passage, Qrels, Query

RANDOM_PASSAGES = 2000
RANKED_BY: Mapping[Head, str] = {
    "dense": "dense vectors",
    "sparse": "sparse weights",
    "multi": "token vectors",
    "unified": "dense vectors, sparse weights and token vectors together",
}


@dataclass(frozen=True)
class EvaluationPool:
    """Judged queries over a part of the corpus. ``statement`` says in words what the part is.

    ``base`` holds the base model's own scores per query where they are known without encoding anything. ``head`` says
    by what the passages are ranked: dense vectors, or what another head trains.
    """

    queries: tuple[Query, ...]
    qrels: Qrels
    passages: tuple[Passage, ...]
    statement: str
    base: tuple[float, ...] | None = None
    head: Head = "dense"

    def ranked_by(self, head: Head) -> EvaluationPool:
        """The same pool; the base's scores, by dense vectors, are not known for another head."""
        if head == self.head:
            return self
        return replace(self, head=head, base=None, statement=f"{self.statement}; ranked by {RANKED_BY[head]}")

    @property
    def measure(self) -> str:
        return PRIMARY

    def __len__(self) -> int:
        return len(self.queries)

    def scores(self, encoder: Encoder) -> NDArray[np.float64]:
        """nDCG@10 per query (Q,), exact search over the pool."""
        scores, found = self._best(encoder)
        results: dict[str, Hits] = {
            query.query_id: [(self.passages[p].passage_id, float(s)) for p, s in zip(found[i], scores[i], strict=True)]
            for i, query in enumerate(self.queries)
        }
        return _ndcg(results, self.qrels, self.queries)

    def _best(self, encoder: Encoder) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(Q, 10) scores and rows of the passages."""
        queries = [query.searched_text for query in self.queries]
        passages = [passage.indexed_text for passage in self.passages]
        priority = tie_priority([passage.passage_id for passage in self.passages])
        if self.head != "dense":
            return best_of_lanes(encoder, self.head, queries, passages, priority)
        left, right = encoder.encode_queries(queries).dense, encoder.encode_passages(passages).dense
        if left is None or right is None:
            raise ArtifactError("the evaluation pool needs dense vectors, which this encoder does not give")
        return ExactSearch(right, priority=priority).top_k(left, 10)

    def by_task(self, scores: NDArray[np.float64]) -> dict[str, float]:
        return {}


class Tunable(Encoder, Protocol):
    """What a dev pool measures: an encoder that may have prompts for several tasks."""

    def for_task(self, task: str) -> Tunable: ...


class DevPool(Protocol):
    """What training is steered by: queries, or pairs. ``base``: the base model's own scores, where they are known."""

    @property
    def measure(self) -> str:
        """What the mean of the scores is called."""

    def __len__(self) -> int: ...

    @property
    def statement(self) -> str: ...

    @property
    def base(self) -> Sequence[float] | None: ...

    def scores(self, encoder: Tunable) -> NDArray[np.float64]:
        """One per query or pair, such that their mean is the measure, and their standard error that of the measure."""

    def by_task(self, scores: NDArray[np.float64]) -> dict[str, float]:
        """The mean of each of several tasks; nothing where there is but one."""


@dataclass(frozen=True)
class NamedPool:
    """One of several tasks; ``task`` says whose prompts of the encoder to use."""

    name: str
    task: str
    pool: DevPool


@dataclass(frozen=True)
class TaskPools:
    """The pools of several tasks, each searched with the prompts of its task. Every query and pair weighs the same,
    whatever the size of its task."""

    pools: Sequence[NamedPool]

    @property
    def measure(self) -> str:
        """Pools of queries and of pairs have different ones: their mean goes by all their names."""
        names = list(dict.fromkeys(named.pool.measure for named in self.pools))
        return names[0] if len(names) == 1 else f"mean of {' and '.join(names)}"

    def __len__(self) -> int:
        return sum(len(named.pool) for named in self.pools)

    @property
    def statement(self) -> str:
        return "; ".join(f"{named.name}: {named.pool.statement}".removeprefix(": ") for named in self.pools)

    @property
    def base(self) -> tuple[float, ...] | None:
        known = [named.pool.base for named in self.pools]
        return None if None in known else tuple(score for scores in known for score in scores or ())

    def scores(self, encoder: Tunable) -> NDArray[np.float64]:
        return np.concatenate([named.pool.scores(encoder.for_task(named.task)) for named in self.pools])

    def by_task(self, scores: NDArray[np.float64]) -> dict[str, float]:
        """The mean of each task that has dev queries or pairs, by its measure and name."""
        ends = np.cumsum([len(named.pool) for named in self.pools])
        parts = zip(self.pools, np.split(scores, ends[:-1]), strict=True)
        return {f"{named.pool.measure} {named.name}": float(part.mean()) for named, part in parts if len(part)}


@dataclass(frozen=True)
class OverPool:
    """A pool that is measured in a way of its own; all else is the pool's."""

    pool: DevPool

    @property
    def measure(self) -> str:
        return self.pool.measure

    def __len__(self) -> int:
        return len(self.pool)

    @property
    def statement(self) -> str:
        return self.pool.statement

    @property
    def base(self) -> Sequence[float] | None:
        return self.pool.base

    def by_task(self, scores: NDArray[np.float64]) -> dict[str, float]:
        return self.pool.by_task(scores)


@dataclass(frozen=True)
class ScoredByFirst(OverPool):
    """A pool that the first of several processes searches for all of them, so that they agree to the last digit."""

    processes: Processes

    def scores(self, encoder: Tunable) -> NDArray[np.float64]:
        return np.array(self.processes.from_first(lambda: self.pool.scores(encoder).tolist()))


def _ndcg(results: Mapping[str, Hits], qrels: Qrels, queries: Sequence[Query]) -> NDArray[np.float64]:
    ids = [query.query_id for query in queries]
    values = per_query(results, qrels, ids, [PRIMARY])[PRIMARY]
    return np.array([values[query_id] for query_id in ids])


def build_dev_pool(
    dev: Judged,
    passages: Sequence[Passage],
    retrieved: Sequence[Sequence[Hits]],
    seed: int,
    base: Mapping[str, Hits] | None = None,
) -> EvaluationPool:
    """Dev positives, what each system retrieved for the dev queries (``retrieved``: one list of hits per system), and
    2,000 random passages. Queries without a relevant passage in the corpus are left out and stated.

    ``base``: what the base model retrieved from the whole corpus. Its best ten are all in the pool, hence also its
    best ten of the pool, and so its scores are known.
    """
    known = {passage.passage_id for passage in passages}
    relevant = {q: {p for p, grade in judged.items() if grade > 0 and p in known} for q, judged in dev.qrels.items()}
    queries = tuple(query for query in dev.queries if relevant.get(query.query_id))
    wanted = {p for query in queries for p in relevant[query.query_id]}
    wanted |= {p for system in retrieved for hits in system for p, _ in hits}
    by_draw = sorted(known, key=lambda p: digest(seed, p))
    drawn = by_draw[:RANDOM_PASSAGES]
    wanted |= set(drawn)
    pool = tuple(passage for passage in passages if passage.passage_id in wanted)
    n_left_out = len(dev.queries) - len(queries)
    statement = (
        f"{len(queries)} dev queries over {len(pool)} of {len(known)} passages: their positives, the top 100 of base "
        f"and BM25, {len(drawn)} random ones"
        + (f"; {n_left_out} dev queries without a relevant passage left out" if n_left_out else "")
    )
    scores = None if base is None else tuple(_ndcg(base, dev.qrels, queries).tolist())
    return EvaluationPool(queries, dev.qrels, pool, statement, scores)
