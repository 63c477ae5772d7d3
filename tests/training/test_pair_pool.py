"""Figures and influences of pairs, against scipy and scikit-learn on the data with one pair given more weight."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from bessemer.formats.pairs import LabelledPair, ScoredPair
from bessemer.training.pair_pool import PairPool, average_precision_values, spearman_values
from fixed_vectors import FixedVectors

COPIES = 4000
"""Of the whole sample, beside one copy more of a single pair: a small step in that pair's direction."""


def with_ties(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.integers(0, 8, n) / 4.0
    return x, np.round(x + random.normal(size=n), 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_spearman_and_influences_are_scipy_s(seed: int) -> None:
    x, y = with_ties(12, seed)
    values = spearman_values(x, y)
    figure = spearmanr(x, y).statistic
    assert values.mean() == pytest.approx(figure, abs=1e-12)
    step = 1 / (12 * COPIES + 1)
    for i in range(12):
        more = spearmanr(np.append(np.tile(x, COPIES), x[i]), np.append(np.tile(y, COPIES), y[i])).statistic
        assert values[i] - figure == pytest.approx((more - figure) / step, abs=2e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_and_influences_are_scikit_learn_s(seed: int) -> None:
    scores, other = with_ties(12, seed)
    labels = other > np.median(other)
    values = average_precision_values(scores, labels)
    figure = average_precision_score(labels, scores)
    assert values.mean() == pytest.approx(figure, abs=1e-12)
    step = 1e-6
    for i in range(12):
        weights = np.full(12, (1 - step) / 12)
        weights[i] += step
        more = average_precision_score(labels, scores, sample_weight=weights)
        assert values[i] - figure == pytest.approx((more - figure) / step, abs=1e-4)


def test_the_standard_error_is_that_of_the_bootstrap() -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=400)
    y = x + random.normal(size=400)
    values = spearman_values(x, y)
    rows = random.integers(0, 400, (2000, 400))
    bootstrap = np.std([spearmanr(x[row], y[row]).statistic for row in rows])
    assert values.std(ddof=1) / 20 == pytest.approx(bootstrap, rel=0.1)


def test_perfect_order_has_no_influence_to_tell_and_a_constant_no_correlation() -> None:
    x = np.arange(5.0)
    assert spearman_values(x, x**3) == pytest.approx(np.ones(5))
    assert spearman_values(np.ones(5), x).tolist() == [0.0] * 5
    assert average_precision_values(x, x > 2) == pytest.approx(np.ones(5))


ENCODER = FixedVectors({"a": [1.0, 0.0], "b": [0.8, 0.6], "c": [0.6, 0.8], "d": [0.0, 1.0]})


def test_a_pool_of_scored_pairs_by_hand() -> None:
    # Cosines .8 .6 0 against 5 2 3: ranks 3 2 1 against 3 1 2, 1 - 6 * 2 / 24 = 0.5.
    pool = PairPool((ScoredPair("a", "b", 5.0), ScoredPair("a", "c", 2.0), ScoredPair("a", "d", 3.0)), "3 pairs")
    assert (pool.measure, len(pool)) == ("Spearman", 3)
    assert pool.scores(ENCODER).mean() == pytest.approx(0.5)


def test_a_pool_of_labelled_pairs_by_hand() -> None:
    # Positives on ranks 1 and 3: (1 + 2/3) / 2.
    pool = PairPool((LabelledPair("a", "b", True), LabelledPair("a", "c", False), LabelledPair("a", "d", True)), "")
    assert pool.measure == "AP"
    assert pool.scores(ENCODER).mean() == pytest.approx(5 / 6)
