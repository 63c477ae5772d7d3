"""Measures equal trec_eval; the statistics are worked out by hand where they can be."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.errors import ConfigError
from bessemer.measures import check_measures, holm, paired_bootstrap, per_query, permutation_test
from bessemer.types import Hits

TREC_NAMES = {
    "nDCG@10": "ndcg_cut_10", "R@5": "recall_5", "P@3": "P_3", "AP@100": "map_cut_100", "Success@1": "success_1",
}  # fmt: skip


def test_graded_ndcg_by_hand() -> None:
    # Ranking: b (grade 1), x (unjudged), a (grade 3). DCG = 1/log2(2) + 3/log2(4) = 2.5.
    # Ideal: 3, 2, 1 (c, grade 2, was missed): 3 + 2/log2(3) + 1/2.
    qrels = {"q": {"a": 3, "b": 1, "c": 2, "d": 0}}
    run: dict[str, Hits] = {"q": [("b", 3.0), ("x", 2.0), ("a", 1.0)]}
    values = per_query(run, qrels, ["q"], ["nDCG@10", "RR@10", "R@2", "P@3", "AP@100", "Success@1"])
    expected = {
        "nDCG@10": 2.5 / (3 + 2 / math.log2(3) + 0.5),
        "RR@10": 1.0,
        "R@2": 1 / 3,
        "P@3": 2 / 3,
        "AP@100": (1 + 2 / 3) / 3,
        "Success@1": 1.0,
    }
    assert {name: value["q"] for name, value in values.items()} == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_equal_to_trec_eval_with_ties(seed: int) -> None:
    generator = np.random.default_rng(seed)
    passages = [f"p{i}" for i in range(30)]
    qrels = {f"q{i}": {p: int(generator.integers(4)) for p in generator.choice(passages, 8, False)} for i in range(4)}
    run: dict[str, Hits] = {
        query_id: [(str(p), float(generator.integers(5))) for p in generator.choice(passages, 20, False)]
        for query_id in qrels
    }
    expected = pytrec_eval.RelevanceEvaluator(qrels, set(TREC_NAMES.values())).evaluate(
        {query_id: dict(hits) for query_id, hits in run.items()}
    )
    values = per_query(run, qrels, list(qrels), list(TREC_NAMES))
    for name, trec_name in TREC_NAMES.items():
        assert values[name] == pytest.approx({query_id: expected[query_id][trec_name] for query_id in qrels})


def test_ties_of_reciprocal_rank_are_those_of_trec_eval() -> None:
    run: dict[str, Hits] = {"q": [("a", 1.0), ("b", 1.0)]}
    assert per_query(run, {"q": {"a": 1}}, ["q"], ["RR@10"])["RR@10"]["q"] == 0.5  # b before a
    close: dict[str, Hits] = {"q": [("a", 1.0 + 1e-12), ("b", 1.0)]}  # equal in the float32 of trec_eval
    assert per_query(close, {"q": {"a": 1}}, ["q"], ["RR@10"])["RR@10"]["q"] == 0.5


def test_missing_queries_score_zero_and_no_others_appear() -> None:
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}, "other": {"a": 1}}
    run: dict[str, Hits] = {"q1": [("a", 1.0)], "q2": [], "other": [("a", 1.0)]}
    for values in per_query(run, qrels, ["q1", "q2", "q3"], ["nDCG@10", "RR@10", "Success@1", "AP@100"]).values():
        assert values == {"q1": 1.0, "q2": 0.0, "q3": 0.0}


def test_unknown_measures_are_all_named() -> None:
    with pytest.raises(ConfigError) as error:
        check_measures(["nDCG@10", "Recal@10", "nDCG@ten", "__import__('os')"])
    for part in ("'Recal@10'", "'nDCG@ten'", "__import__", "nDCG@10, AP@100"):
        assert part in str(error.value)
    check_measures(["nDCG@10", "R@100", "Success@3"])


def test_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        per_query({"q": [("a", math.nan)]}, {"q": {"a": 1}}, ["q"], ["RR@10"])


def test_bootstrap_of_constant_differences() -> None:
    assert paired_bootstrap([0.25] * 7) == (0.25, 0.25)


def test_bootstrap_is_about_the_normal_interval() -> None:
    differences = np.random.default_rng(3).normal(0.1, 1, 2000)
    half = 1.96 * differences.std() / math.sqrt(2000)
    low, high = paired_bootstrap(differences, seed=1)
    assert low == pytest.approx(differences.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(differences.mean() + half, abs=0.1 * half)
    assert paired_bootstrap(differences, seed=1) == (low, high)


def test_copies_of_queries_do_not_narrow_the_clustered_interval() -> None:
    single = np.random.default_rng(0).normal(0, 1, 100)
    copied, labels = np.repeat(single, 9), np.repeat(np.arange(100), 9)
    width = {name: high - low for name, (low, high) in {
        "single": paired_bootstrap(single), "clustered": paired_bootstrap(copied, labels),
        "naive": paired_bootstrap(copied),
    }.items()}  # fmt: skip
    assert width["clustered"] == pytest.approx(width["single"], rel=1e-9)
    assert width["naive"] == pytest.approx(width["single"] / 3, rel=0.1)


def test_clusters_of_unequal_size_weigh_by_their_queries() -> None:
    # Two clusters: {0, 0, 0} and {1}. The draws give 0, 1/4 (twice as often) and 1.
    low, high = paired_bootstrap([0, 0, 0, 1], [5, 5, 5, 2])
    assert (low, high) == (0.0, 1.0)


def test_sign_flip_p_by_hand() -> None:
    # |sum| = 6 is reached by + + + and - - - only: 2 of 8.
    assert permutation_test([1, 2, 3]) == 0.25
    # Clusters {1, 2} and {3}: sums 3 and 3; |6| by ++ and --: 2 of 4.
    assert permutation_test([1, 2, 3], [0, 0, 1]) == 0.5
    assert permutation_test([0.1, -0.1]) == 1.0
    assert permutation_test([0.0] * 50) == 1.0


def test_sampled_sign_flip_p_is_near_the_exact_one() -> None:
    differences = np.random.default_rng(5).normal(0.4, 1, 14)
    signs = np.asarray(list(itertools.product((-1, 1), repeat=14)))
    exact = float(np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12))
    assert permutation_test(differences, n_samples=2**14) == pytest.approx(exact)
    assert permutation_test(differences, n_samples=10_000) == pytest.approx(exact, abs=0.01)
    assert permutation_test(np.ones(100), n_samples=999) == 1 / 1000  # never 0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_no_queries_and_wrong_labels() -> None:
    with pytest.raises(ValueError, match="no queries"):
        paired_bootstrap([])
    with pytest.raises(ValueError, match="no queries"):
        permutation_test([])
    with pytest.raises(ValueError, match="2 cluster labels"):
        paired_bootstrap([1, 2, 3], [0, 1])
