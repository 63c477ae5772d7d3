"""Losses of a teacher's scores: by hand, term by term in plain Python, against sentence-transformers, permuted."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss
from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import ConfigError
from bessemer.training.losses import (
    FOR_TEACHERS,
    Calibration,
    distillation,
    margin_mse,
    stable_distillation,
    teacher_loss,
)

INF = float("inf")
QUERIES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
PASSAGES = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
"""Query 0 scores them 0.8, 0.6 and 0; query 1 0.6, 0.8 and 1. At temperature 0.5: 1.6 1.2 0 and 1.2 1.6 2."""
POSITIVES = torch.tensor([0, 1])
NOTHING = torch.zeros(2, 3, dtype=torch.bool)
CANDIDATES = torch.tensor([[0, 1], [1, 0]])
"""Query 0: passages 0 and 1. Query 1: passage 1 alone; what stands beside it is padding."""
TEACHER = torch.tensor([[math.log(3) * 2, 0.0], [5.0, -INF]])
"""At teacher temperature 2: weights 3/4 and 1/4; 1."""
SOFT = {"temperature": 0.5, "teacher_temperature": 2.0}


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def test_distillation_by_hand() -> None:
    # Query 0: -3/4 log softmax(1.6) - 1/4 log softmax(1.2) = 3/4 * 0.513015 + 1/4 * 0.913015 = 0.613015.
    # Query 1: one candidate, -log 1 = 0.
    found = distillation(QUERIES, PASSAGES, POSITIVES, NOTHING, CANDIDATES, TEACHER, **SOFT).item()
    assert found == pytest.approx(0.613015 / 2, abs=1e-6)


def test_stable_distillation_by_hand() -> None:
    # Query 0: candidate 0 against 1 (1.2), which is below it, and passage 2 (0), which is nobody's candidate; candidate
    # 1 against passage 2 alone. Query 1: its candidate (1.6) against passages 0 (1.2) and 2 (2).
    first = math.log(1 + math.exp(-0.4) + math.exp(-1.6))
    expected = 0.75 * first + 0.25 * softplus(-1.2) + math.log(1 + math.exp(-0.4) + math.exp(0.4))
    given = (QUERIES, PASSAGES, POSITIVES, NOTHING, CANDIDATES, TEACHER)
    assert stable_distillation(*given, **SOFT).item() == pytest.approx(expected / 2, abs=1e-6)


def test_excluded_passages_are_no_negatives_of_the_batch_but_candidates_stay() -> None:
    excluded = torch.tensor([[True, True, True], [False, False, True]])  # of query 0 both candidates, too
    expected = 0.75 * softplus(-0.4) + 0.25 * 0 + softplus(-0.4)
    given = (QUERIES, PASSAGES, POSITIVES, excluded, CANDIDATES, TEACHER)
    assert stable_distillation(*given, **SOFT).item() == pytest.approx(expected / 2, abs=1e-6)


def test_ties_are_not_below_each_other() -> None:
    tied = torch.tensor([[4.0, 4.0], [5.0, -INF]])
    excluded = torch.ones(2, 3, dtype=torch.bool)
    assert stable_distillation(QUERIES, PASSAGES, POSITIVES, excluded, CANDIDATES, tied, **SOFT).item() == 0.0


def test_the_positive_is_no_negative_of_the_candidates_where_the_teacher_has_not_scored_it() -> None:
    candidates, teacher = torch.tensor([[1], [0]]), torch.tensor([[1.0], [-INF]])
    excluded = torch.tensor([[False, False, True], [False, False, False]])
    found = stable_distillation(QUERIES, PASSAGES, POSITIVES, excluded, candidates, teacher, **SOFT)
    assert found.item() == 0.0


def test_margin_mse_by_hand() -> None:
    # Query 0: candidates 0 (the positive) 1 and 2; margins 0.2 and 0.8, of the teacher 2 and 4. In units of 0.4 and 4:
    # (0.5 - 0.5)^2 and (2 - 1)^2, mean 0.5. Query 1: positive 1 over 2 by -0.2, of the teacher by 1: (-0.5 - 0.25)^2.
    candidates = torch.tensor([[0, 1, 2], [2, 1, 0]])
    teacher = torch.tensor([[7.0, 5.0, 3.0], [1.0, 2.0, -INF]])
    found = margin_mse(
        QUERIES, PASSAGES, POSITIVES, NOTHING, candidates, teacher, student_spread=0.4, teacher_spread=4.0
    )
    assert found.item() == pytest.approx((0.5 + 0.75**2) / 2, abs=1e-6)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "distillation": partial(distillation, temperature=0.1, teacher_temperature=0.7),
    "stable_distillation": partial(stable_distillation, temperature=0.1, teacher_temperature=0.7),
    "margin_mse": partial(margin_mse, student_spread=0.3, teacher_spread=2.0),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def batch() -> tuple[Tensor, ...]:
    """Six queries over 20 passages with 1 to 5 candidates, the positive among them; ties; one without scores."""
    torch.manual_seed(5)
    queries = torch.nn.functional.normalize(torch.randn(6, 8), dim=-1)
    passages = torch.nn.functional.normalize(torch.randn(20, 8), dim=-1)
    candidates = torch.stack([torch.randperm(20)[:5] for _ in range(6)])
    teacher = torch.randint(-3, 4, (6, 5)).float()
    for row, n in enumerate((5, 4, 3, 2, 1, 0)):
        teacher[row, n:] = -INF
    positives = candidates[:, 0].clone()
    excluded = torch.rand(6, 20) < 0.2
    return queries, passages, positives, excluded, candidates, teacher


def value_and_gradients(loss: Callable[..., Tensor], given: tuple[Tensor, ...]) -> tuple[float, Tensor, Tensor]:
    queries, passages = (side.clone().requires_grad_() for side in given[:2])
    found = loss(queries, passages, *given[2:])
    found.backward()
    assert queries.grad is not None
    assert passages.grad is not None
    return found.item(), queries.grad, passages.grad


@each_loss
def test_the_order_of_candidates_is_nothing(name: str) -> None:
    given = batch()
    value, *gradients = value_and_gradients(LOSSES[name], given)
    order = torch.stack([torch.randperm(5) for _ in range(6)])
    permuted = (*given[:4], given[4].gather(1, order), given[5].gather(1, order))
    again, *others = value_and_gradients(LOSSES[name], permuted)
    assert again == pytest.approx(value, rel=1e-6)
    for gradient, other in zip(gradients, others, strict=True):
        assert torch.isfinite(gradient).all()
        assert (gradient - other).norm() <= 1e-6 * gradient.norm()
    assert not gradients[0][5].any()  # the query without scores
    assert gradients[0][0].any()


@each_loss
def test_padding_is_nothing(name: str) -> None:
    given = batch()
    value, *gradients = value_and_gradients(LOSSES[name], given)
    wider = (
        *given[:4],
        torch.cat([given[4], given[4][:, :2]], dim=1),
        torch.nn.functional.pad(given[5], (0, 2), value=-INF),
    )
    again, *others = value_and_gradients(LOSSES[name], wider)
    assert again == pytest.approx(value, rel=1e-6)
    assert all((a - b).norm() <= 1e-6 * a.norm() for a, b in zip(gradients, others, strict=True))


@each_loss
def test_equals_the_formula_written_out(name: str) -> None:
    queries, passages, positives, excluded, candidates, teacher = batch()
    scores = (queries @ passages.T).tolist()
    total = 0.0
    for i in range(6):
        own = {int(p): float(r) for p, r in zip(candidates[i], teacher[i], strict=True) if r > -INF}
        e = [math.exp(s / 0.1) for s in scores[i]]
        sum_w = sum(math.exp(r / 0.7) for r in own.values())
        if name == "margin_mse":
            others = [p for p in own if p != int(positives[i])]
            for p in others:
                student = scores[i][int(positives[i])] - scores[i][p]
                total += (student / 0.3 - (own[int(positives[i])] - own[p]) / 2.0) ** 2 / len(others)
            continue
        for p, r in own.items():
            if name == "distillation":
                below = sum(e[j] for j in own) - e[p]
            else:
                below = sum(e[j] for j, other in own.items() if other < r)
                unjudged = set(range(20)) - own.keys() - {int(positives[i])}
                below += sum(e[j] for j in unjudged if not excluded[i, j])
            total += math.exp(r / 0.7) / sum_w * -math.log(e[p] / (e[p] + below))
    found = LOSSES[name](queries, passages, positives, excluded, candidates, teacher)
    assert found.item() == pytest.approx(total / 6, rel=1e-5)


def test_a_temperature_near_zero_leaves_the_best_candidate() -> None:
    given = (QUERIES, PASSAGES, POSITIVES, NOTHING, CANDIDATES, TEACHER)
    found = distillation(*given, temperature=0.5, teacher_temperature=1e-40)
    assert found.item() == pytest.approx(softplus(-0.4) / 2, abs=1e-6)


@each_loss
def test_in_float32_under_autocast(name: str) -> None:
    given = batch()
    plain = LOSSES[name](*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert LOSSES[name](*given).item() == plain.item()


TEXTS = (
    ["how is steel made", "what is a blast furnace", "price of iron in 1870"],
    ["Air is blown through molten iron.", "A tall oven for ore.", "Iron cost a few dollars."],
    ["Wood floats.", "A lake in the north.", "Gold was dear."],
    ["Steel is made of iron.", "An oven for bread.", "Iron ore of 1870."],
)
LABELS = torch.tensor([[9.0, 1.0, 6.0], [8.0, 2.0, 5.0], [7.0, 3.0, 8.0]])


@pytest.mark.parametrize("name", ["distillation", "margin_mse"])
def test_equals_sentence_transformers_with_gradients(name: str, minilm: DenseEncoder) -> None:
    model = minilm.model.eval()
    parameters = list(model.parameters())

    def gradient(value: Tensor) -> Tensor:
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    inputs = [model.preprocess(texts) for texts in TEXTS]
    sides = [
        minilm.embed(minilm.features(minilm.tokenize(texts, side), side))
        for texts, side in ((TEXTS[0], "query"), ([*TEXTS[1], *TEXTS[2], *TEXTS[3]], "passage"))
    ]
    candidates = torch.tensor([[i, 3 + i, 6 + i] for i in range(3)])
    given = (*sides, torch.arange(3), torch.zeros(3, 9, dtype=torch.bool), candidates, LABELS)
    if name == "distillation":  # theirs is the divergence times t^2: less the entropy of the weights, a constant
        t = 2.0
        expected = DistillKLDivLoss(model, temperature=t)(inputs, LABELS) / t**2
        weights = (LABELS / t).softmax(dim=1)
        entropy = -(weights * weights.log()).sum(dim=1).mean()
        ours = distillation(*given, temperature=t, teacher_temperature=t)
        assert ours.item() == pytest.approx((expected + entropy).item(), rel=1e-5)
    else:
        expected = MarginMSELoss(model)(inputs, LABELS[:, :1] - LABELS[:, 1:])
        ours = margin_mse(*given, student_spread=1.0, teacher_spread=1.0)
        assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    theirs = gradient(expected)
    assert theirs.norm() > 0.05
    assert (gradient(ours) - theirs).norm() <= 1e-5 * theirs.norm()


def test_widths_and_the_margin_of_the_batch_go_with_all_of_them() -> None:
    given = batch()
    found = Calibration(0.7, 2.0, 0.3)
    for name, plain in LOSSES.items():
        config = FinetuneConfig(loss=name, temperature=0.1, matryoshka_dims=(4,), batch_margin=0.0)
        scores = given[0] @ given[1].T
        narrow = [torch.nn.functional.normalize(side[:, :4], dim=-1) for side in given[:2]]
        cut = narrow[0] @ narrow[1].T
        screened = [given[3] | (s > s.gather(1, given[2][:, None])) for s in (scores, cut)]
        both = plain(*given[:3], screened[0], *given[4:]), plain(*narrow, given[2], screened[1], *given[4:])
        loss = teacher_loss(config, found, 8, normalised=True)
        assert loss(*given).item() == pytest.approx((both[0] + both[1]).item() / 2, rel=1e-6)
    with pytest.raises(ConfigError, match=r"matryoshka_dims: \[9\] not within the model's 8"):
        teacher_loss(FinetuneConfig(loss="distillation", matryoshka_dims=(9,)), found, 8, normalised=True)
    assert set(LOSSES) == set(FOR_TEACHERS)
