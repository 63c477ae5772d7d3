from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from bessemer.measures import per_query
from bessemer.search.fusion import reciprocal_rank_fusion, weighted_fusion
from bessemer.search.fusion_tuning import tune_fusion
from bessemer.types import Hits

RIGHT: Hits = [("good", 0.9), ("b", 0.2), ("c", 0.1)]
WRONG: Hits = [("b", 7.0), ("c", 6.9), ("d", 5.0), ("good", 1.0)]
FIRST_OF_TWO = 1 / np.log2(3)


def test_a_lane_that_misleads_loses_its_weight() -> None:
    """At equal weights b has 0.125 + 1 and good 1 + 0; at a half of the second lane b has 0.625 and good leads. By rank
    b has 1/62 + 1/61 and good 1/61 + 1/64, so that good is second."""
    qrels = {f"q{number}": {"good": 1} for number in range(20)}
    tuned = tune_fusion({query_id: {"dense": RIGHT, "bm25": WRONG} for query_id in qrels}, qrels)
    assert tuned.weights == {"dense": 1.0, "bm25": 0.5}
    assert (tuned.weighted, tuned.n_queries) == (1.0, 20)
    assert tuned.by_rank == pytest.approx(FIRST_OF_TWO)
    assert tuned.to_dict()["weights"] == {"dense": 1.0, "bm25": 0.5}


def test_ranks_stay_where_weights_are_not_better_by_more_than_chance() -> None:
    """One misled query of ten: the gain is one standard error."""
    qrels = {f"q{number}": {"good": 1} for number in range(10)}
    lanes = {query_id: {"dense": RIGHT, "bm25": RIGHT} for query_id in qrels}
    lanes["q0"] = {"dense": RIGHT, "bm25": WRONG}
    tuned = tune_fusion(lanes, qrels)
    assert tuned.weights is None
    assert tuned.by_rank == pytest.approx((9 + FIRST_OF_TWO) / 10)


def test_figures_are_those_of_the_fusions_themselves() -> None:
    """Three lanes of random scores, of which some queries lack one."""
    rng = np.random.default_rng(3)
    ids = [f"p{number}" for number in range(30)]

    def some(good: str, lift: float) -> Hits:
        chosen = rng.choice(ids, 12, replace=False).tolist()
        scores = {passage_id: float(rng.standard_normal()) for passage_id in {*chosen, good}}
        scores[good] += lift
        return sorted(scores.items(), key=lambda hit: -hit[1])

    qrels = {f"q{number}": {ids[number % 30]: 1} for number in range(40)}
    lanes = {
        query_id: {"dense": some(good, 0.5), "bm25": some(good, 3.0), "questions": some(good, 0.0)}
        for query_id, (good,) in ((query_id, tuple(grades)) for query_id, grades in qrels.items())
    }
    del lanes["q7"]["questions"]
    tuned = tune_fusion(lanes, qrels)
    assert tuned.weights is not None
    assert tuned.weights["bm25"] > tuned.weights["questions"]
    weights = [tuned.weights[lane] for lane in ("dense", "bm25", "questions")]
    fused = {
        query_id: weighted_fusion([found.get(lane, []) for lane in ("dense", "bm25", "questions")], weights)
        for query_id, found in lanes.items()
    }
    ranked = {query_id: reciprocal_rank_fusion(list(found.values())) for query_id, found in lanes.items()}
    for hits, figure in ((fused, tuned.weighted), (ranked, tuned.by_rank)):
        values = per_query(hits, qrels, list(qrels), ["nDCG@10"])["nDCG@10"]
        assert figure == pytest.approx(np.mean(list(values.values())))


def test_memory_does_not_grow_with_settings_times_queries() -> None:
    """Five lanes have 1,296 settings: the best ten of each, held at once, took 1.7 MB for every query."""
    names = ("dense", "sparse", "bm25", "questions")
    hits = [(f"p{number}", 1.0 - number / 20) for number in range(12)]
    qrels = {f"q{number}": {"p3": 1} for number in range(40)}
    lanes = {query_id: {name: list(hits) for name in names} for query_id in qrels}
    tracemalloc.start()
    tune_fusion(lanes, qrels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6


def test_without_queries() -> None:
    with pytest.raises(ValueError, match="no dev queries"):
        tune_fusion({}, {})
