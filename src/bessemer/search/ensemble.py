"""Scores of several lanes to one: the weighted sum of what dense, sparse and multi-vectors say (BGE-M3, 2402.03216)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.unified_settings import LaneWeights
from bessemer.measures import PRIMARY, per_query
from bessemer.search.dev_choice import Factors, near_the_default, ratios
from bessemer.search.ranking import sort_hits
from bessemer.types import Hits, Qrels

DEPTH = 10  # of PRIMARY

Scores = NDArray[np.float32]


class LaneScores(NamedTuple):
    """The scores (n,) of one query with n passages in every lane, each known exactly."""

    passage_ids: Sequence[str]
    dense: Scores
    sparse: Scores
    multi_vector: Scores

    def hits(self, weights: LaneWeights, top_k: int) -> Hits:
        scores = weighted_sum(self.dense, self.sparse, self.multi_vector, weights)
        kept = np.arange(len(scores))
        if len(scores) > top_k:  # all that tie with the last place stay until the ids decide
            kept = np.flatnonzero(scores >= np.partition(scores, -top_k)[-top_k])
        return sort_hits((self.passage_ids[row], float(scores[row])) for row in kept.tolist())[:top_k]


def weighted_sum(dense: Scores, sparse: Scores, multi_vector: Scores, weights: LaneWeights) -> Scores:
    """The ensemble's score, in float32, of arrays of one shape."""
    one, two, three = (np.float32(weight) for weight in weights)
    total: Scores = one * dense + two * sparse + three * multi_vector
    return total


@dataclass(frozen=True)
class LaneTuning:
    """The chosen weights, and nDCG@10 on dev with them, with those before, and with the best ones tried."""

    weights: LaneWeights
    dev: float
    before: float
    best: float
    n_queries: int

    def to_dict(self) -> dict[str, float]:
        """For a report: ``weights`` by lane, and what they do on dev."""
        figures = {"dev": self.dev, "dev_before": self.before, "dev_best": self.best, "n_queries": self.n_queries}
        return {**self.weights._asdict(), **figures}


def tune_lane_weights(scores: Mapping[str, LaneScores], qrels: Qrels, default: LaneWeights | None = None) -> LaneTuning:
    """Weights for the dev queries in ``scores`` (by query_id; those without a relevant passage do not count).

    Each weight of ``default`` is multiplied by each of `FACTORS`: a lane that misleads can be left out, be it the dense
    one. Taken is by nDCG@10 what `near_the_default` says. Without dev queries the default stays.
    """
    default = default or LaneWeights()
    query_ids = [query_id for query_id in scores if any(grade > 0 for grade in qrels.get(query_id, {}).values())]
    if not query_ids:
        return LaneTuning(default, 0.0, 0.0, 0.0, 0)
    on_dev = {factors: _measured(_scaled(default, factors), scores, qrels, query_ids) for factors in ratios(3)}
    chosen, best = near_the_default(on_dev)
    dev, before, highest = (float(on_dev[factors].mean()) for factors in (chosen, (1.0, 1.0, 1.0), best))
    return LaneTuning(_scaled(default, chosen), dev, before, highest, len(query_ids))


def _scaled(default: LaneWeights, factors: Factors) -> LaneWeights:
    return LaneWeights(*(weight * factor for weight, factor in zip(default, factors, strict=True)))


def _measured(
    weights: LaneWeights, scores: Mapping[str, LaneScores], qrels: Qrels, query_ids: Sequence[str]
) -> NDArray[np.float64]:
    hits = {query_id: scores[query_id].hits(weights, DEPTH) for query_id in query_ids}
    values = per_query(hits, qrels, query_ids, [PRIMARY])[PRIMARY]
    return np.array([values[query_id] for query_id in query_ids])
