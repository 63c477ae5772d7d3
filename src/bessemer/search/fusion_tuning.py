"""How the lanes of an index are fused, chosen by dev queries: by rank, or by weighted scores where these are better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer.measures import PRIMARY, per_query
from bessemer.search.dev_choice import Factors, Values, grid, is_better, near_the_default
from bessemer.search.fusion import normalised_scores, reciprocal_rank_fusion
from bessemer.search.ranking import best_hits, tie_priority
from bessemer.types import Hits, Qrels

DEPTH = 10  # of PRIMARY


@dataclass(frozen=True)
class FusionTuning:
    """``weights`` by lane, None where ranks are fused; and nDCG@10 on ``n_queries`` dev queries with the weights
    nearest to equal ones that are as good as the best, and by rank."""

    weights: Mapping[str, float] | None
    weighted: float
    by_rank: float
    n_queries: int

    def to_dict(self) -> dict[str, Any]:
        figures = {"dev_weighted": self.weighted, "dev_by_rank": self.by_rank, "n_queries": self.n_queries}
        return {"weights": dict(self.weights) if self.weights else None, **figures}


def tune_fusion(lanes: Mapping[str, Mapping[str, Hits]], qrels: Qrels) -> FusionTuning:
    """``lanes``: the lists of every dev query, by query_id and lane; the first lane keeps the weight 1, as only ratios
    matter. A query may lack a lane. Queries need a relevant passage; raises ValueError without any.

    Weights are chosen as `near_the_default` has it. They are taken only where they beat reciprocal rank fusion by more
    than one standard error of the paired difference.
    """
    if not lanes:
        raise ValueError("no dev queries to tune by")
    query_ids, names = list(lanes), list(dict.fromkeys(name for found in lanes.values() for name in found))
    settings = grid(len(names) - 1)
    values = _weighted_values(lanes, names, settings, qrels)
    weighted = dict(zip(settings, values, strict=True))
    chosen, _ = near_the_default(weighted)
    ranked = {query_id: reciprocal_rank_fusion(list(lanes[query_id].values()))[:DEPTH] for query_id in query_ids}
    by_rank = _values(ranked, qrels, query_ids)
    is_taken = is_better(weighted[chosen], by_rank)
    weights = dict(zip(names, (1.0, *chosen), strict=True)) if is_taken else None
    return FusionTuning(weights, float(weighted[chosen].mean()), float(by_rank.mean()), len(query_ids))


def _weighted_values(
    lanes: Mapping[str, Mapping[str, Hits]], names: Sequence[str], settings: Sequence[Factors], qrels: Qrels
) -> list[Values]:
    """(queries,) for every setting; the lists of a query are normalised once, and the hits of one setting are held."""
    each = {query_id: normalised_scores([found.get(name, []) for name in names]) for query_id, found in lanes.items()}
    priorities = {query_id: tie_priority(passage_ids) for query_id, (passage_ids, _) in each.items()}

    def hits(weights: Values) -> dict[str, Hits]:
        return {
            query_id: best_hits(ids, priorities[query_id], np.arange(len(ids)), weights @ scores, DEPTH)
            for query_id, (ids, scores) in each.items()
        }

    return [_values(hits(np.array([1.0, *factors])), qrels, list(lanes)) for factors in settings]


def _values(hits: Mapping[str, Hits], qrels: Qrels, query_ids: Sequence[str]) -> Values:
    found = per_query(hits, qrels, query_ids, [PRIMARY])[PRIMARY]
    return np.array([found[query_id] for query_id in query_ids])
