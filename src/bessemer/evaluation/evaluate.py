"""Running systems over judged queries and measuring them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bessemer.config import EvaluationConfig
from bessemer.encoders.encoder import Encoded
from bessemer.errors import DataError, Problem
from bessemer.measures import PRIMARY, check_measures, per_query
from bessemer.search.fusion import reciprocal_rank_fusion, weighted_fusion
from bessemer.search.ranking import followed_by
from bessemer.search.retriever import LANE_DEPTH, Retriever
from bessemer.types import Hits, Judged, Query, Run

COMPARED = (PRIMARY, "R@10", "RR@10")
FEW_QUERIES = 100
_CURVE = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Evaluation:
    """The measures of several systems on the same queries.

    ``per_query`` is system -> measure -> query_id -> value; ``queries`` are those that count: with a relevant passage.
    """

    queries: tuple[Query, ...]
    per_query: Mapping[str, Mapping[str, Mapping[str, float]]]
    queries_per_second: Mapping[str, float]
    measures: tuple[str, ...]
    recall_curve: Mapping[str, list[tuple[int, float]]]
    notes: tuple[str, ...]

    @property
    def n_queries(self) -> int:
        return len(self.queries)

    def mean(self, system: str, measure: str) -> float:
        return sum(self.per_query[system][measure].values()) / self.n_queries

    def to_dict(self) -> dict[str, Any]:
        """The parts ``n_queries``, ``systems``, ``recall_curve`` and ``notes`` of the JSON that `evaluate` writes."""
        return {
            "n_queries": self.n_queries,
            "systems": {
                name: {
                    "measures": {measure: self.mean(name, measure) for measure in self.measures},
                    "queries_per_second": self.queries_per_second[name],
                }
                for name in self.per_query
            },
            "recall_curve": {name: [list(point) for point in curve] for name, curve in self.recall_curve.items()},
            "notes": list(self.notes),
        }


def run_system(name: str, retriever: Retriever, queries: Sequence[Query], top_k: int) -> Run:
    """Search every query, timed: encoding of the queries included, loading and indexing not."""
    started = time.perf_counter()
    found = retriever.search([query.searched_text for query in queries], top_k)
    seconds = time.perf_counter() - started
    results = {query.query_id: hits for query, hits in zip(queries, found, strict=True)}
    return Run(name, results, len(queries) / max(seconds, 1e-9))


def run_lanes(
    encode: Callable[[Sequence[str]], Encoded],
    lanes: Mapping[str, Callable[[Encoded, int], list[Hits]]],
    queries: Sequence[Query],
    top_k: int,
) -> tuple[list[Run], Encoded]:
    """One run per lane, by name, of queries that are encoded once; the time of that counts in every run. And what
    they were encoded to."""
    started = time.perf_counter()
    encoded = encode([query.searched_text for query in queries])
    encoding = time.perf_counter() - started
    runs = []
    for name, search in lanes.items():
        started = time.perf_counter()
        found = search(encoded, top_k)
        seconds = encoding + time.perf_counter() - started
        results = {query.query_id: hits for query, hits in zip(queries, found, strict=True)}
        runs.append(Run(name, results, len(queries) / max(seconds, 1e-9)))
    return runs, encoded


def rerank_run(
    name: str, run: Run, rerank: Callable[[Sequence[str], Sequence[Hits]], Sequence[Hits]], queries: Sequence[Query]
) -> Run:
    """The first ``LANE_DEPTH`` of every list of ``run`` in the order and with the scores of ``rerank`` (texts, lists);
    what stood below them stays below. Its time includes that of ``run``."""
    lists = [run.results.get(query.query_id, []) for query in queries]
    started = time.perf_counter()
    heads = rerank([query.searched_text for query in queries], [hits[:LANE_DEPTH] for hits in lists])
    seconds = time.perf_counter() - started
    results = {
        query.query_id: followed_by(head, hits[LANE_DEPTH:])
        for query, head, hits in zip(queries, heads, lists, strict=True)
    }
    seconds += len(queries) / run.queries_per_second if run.queries_per_second else 0.0
    return Run(name, results, len(queries) / max(seconds, 1e-9))


def fuse_runs(name: str, runs: Sequence[Run], top_k: int, weights: Sequence[float] | None = None) -> Run:
    """The hybrid of ``runs`` by reciprocal rank fusion, or by their scores with ``weights``, one per run; its time is
    the sum of theirs.

    Each run should be at least ``LANE_DEPTH`` deep.
    """
    fused = reciprocal_rank_fusion if weights is None else partial(weighted_fusion, weights=weights)
    query_ids = dict.fromkeys(query_id for run in runs for query_id in run.results)
    depth = max(top_k, LANE_DEPTH)
    results = {
        query_id: fused([run.results.get(query_id, [])[:depth] for run in runs])[:top_k] for query_id in query_ids
    }
    seconds = sum(1 / run.queries_per_second for run in runs if run.queries_per_second > 0)
    return Run(name, results, 1 / seconds if seconds else 0.0)


def evaluate_runs(runs: Sequence[Run], judged: Judged, config: EvaluationConfig) -> Evaluation:
    """Measure ``runs`` on the queries of ``judged`` that have a relevant passage.

    Queries without one cannot be answered by any system: they are left out and counted in the notes. A query that a
    run lacks scores 0. Raises DataError when no query is left, ConfigError for an unknown measure.
    """
    check_measures(config.measures)
    queries = tuple(q for q in judged.queries if any(grade > 0 for grade in judged.qrels.get(q.query_id, {}).values()))
    if not queries:
        raise DataError([_NO_POSITIVES])
    query_ids = [query.query_id for query in queries]
    measures = tuple(dict.fromkeys((*config.measures, *COMPARED)))
    cutoffs = [k for k in _CURVE if k <= config.top_k]
    wanted = tuple(dict.fromkeys((*measures, *(f"R@{k}" for k in cutoffs))))
    values = {run.name: per_query(run.results, judged.qrels, query_ids, wanted) for run in runs}
    curve = {
        name: [(k, sum(measured[f"R@{k}"].values()) / len(queries)) for k in cutoffs]
        for name, measured in values.items()
    }
    speed = {run.name: run.queries_per_second for run in runs}
    return Evaluation(queries, values, speed, measures, curve, tuple(_notes(judged, queries, runs)))


_NO_POSITIVES = Problem(
    "qrels", None, "score", "no query of this split has a relevant passage", "give qrels with a score above 0"
)


def _notes(judged: Judged, queries: Sequence[Query], runs: Sequence[Run]) -> list[str]:
    notes = []
    n_left_out = len(judged.queries) - len(queries)
    if n_left_out:
        notes.append(f"{n_left_out} of {len(judged.queries)} queries have no relevant passage and were left out.")
    for run in runs:
        n_missing = sum(1 for query in queries if query.query_id not in run.results)
        if n_missing:
            notes.append(f"{run.name} has no results for {n_missing} queries; they score 0.")
    return [*notes, *few_queries_note(len(queries))]


def few_queries_note(n: int) -> list[str]:
    """A warning where there are few, else nothing."""
    if n >= FEW_QUERIES:
        return []
    return [f"Only {n} test queries: the interval is rough, often too narrow; judge at least {FEW_QUERIES}."]
