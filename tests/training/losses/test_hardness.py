from __future__ import annotations

import math

import pytest
import torch

from bessemer.training.losses import hardness_weighted, info_nce

QUERIES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
PASSAGES = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
POSITIVES = torch.tensor([0, 1])
NOTHING = torch.zeros(2, 3, dtype=torch.bool)


def loss(beta: float, class_prior: float, excluded: torch.Tensor = NOTHING) -> float:
    found = hardness_weighted(QUERIES, PASSAGES, POSITIVES, excluded, 0.5, beta=beta, class_prior=class_prior)
    return found.item()


def plain(positive: float, negatives: list[float], beta: float, prior: float, t: float = 0.5) -> float:
    """The formula of the paper, term by term."""
    n = len(negatives)
    weights = [math.exp(beta * s) / (sum(math.exp(beta * other) for other in negatives) / n) for s in negatives]
    group = (
        -n * prior * math.exp(positive / t) + sum(w * math.exp(s / t) for w, s in zip(weights, negatives, strict=True))
    ) / (1 - prior)
    group = max(group, n * math.exp(-1 / t))
    return -math.log(math.exp(positive / t) / (math.exp(positive / t) + group))


def test_without_weights_and_prior_it_is_info_nce() -> None:
    expected = info_nce(QUERIES, PASSAGES, POSITIVES, NOTHING, 0.5).item()
    assert loss(0.0, 0.0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("beta", "prior"), [(1.0, 0.0), (2.0, 0.1), (0.0, 0.3), (5.0, 0.05)])
def test_the_written_out_formula(beta: float, prior: float) -> None:
    expected = (plain(0.8, [0.6, 0.0], beta, prior) + plain(0.8, [0.6, 1.0], beta, prior)) / 2
    assert loss(beta, prior) == pytest.approx(expected, rel=1e-5)


def test_a_prior_that_takes_more_than_there_is_ends_at_the_floor() -> None:
    # 2 * 0.9 * e^1.6 = 8.92 is more than query 0's weighted sum, 5.0: it stands at N e^{-1/t} = 2 e^-2.
    # Query 1's sum is 11.5.
    at_the_floor = math.log1p(2 * math.exp(-2) / math.exp(1.6))
    assert plain(0.8, [0.6, 0.0], 1.0, 0.9) == pytest.approx(at_the_floor)
    assert loss(1.0, 0.9) == pytest.approx((at_the_floor + plain(0.8, [0.6, 1.0], 1.0, 0.9)) / 2, rel=1e-5)


def test_excluded_passages_count_nowhere_and_a_query_without_negatives_adds_nothing() -> None:
    excluded = torch.tensor([[False, False, True], [True, False, True]])
    assert loss(2.0, 0.1, excluded) == pytest.approx(plain(0.8, [0.6], 2.0, 0.1) / 2, rel=1e-5)


@pytest.mark.parametrize("prior", [0.0, 0.1, 0.9])
def test_gradients_are_numbers_and_right(prior: float) -> None:
    excluded = torch.tensor([[False, False, True], [True, False, True]])
    queries = QUERIES.double().float().requires_grad_()
    hardness_weighted(queries, PASSAGES, POSITIVES, excluded, 0.5, beta=2.0, class_prior=prior).backward()
    assert torch.isfinite(queries.grad).all()
    step = 1e-3
    for i, j in ((0, 0), (0, 1)):
        values = []
        for sign in (1, -1):
            moved = QUERIES.clone()
            moved[i, j] += sign * step
            values.append(
                hardness_weighted(moved, PASSAGES, POSITIVES, excluded, 0.5, beta=2.0, class_prior=prior).item()
            )
        assert queries.grad[i, j].item() == pytest.approx((values[0] - values[1]) / (2 * step), abs=2e-3)
