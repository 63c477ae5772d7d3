"""Losses of pairs: by hand, and value and gradient against those of sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import (
    ContrastiveLoss,
    CoSENTLoss,
    CosineSimilarityLoss,
    OnlineContrastiveLoss,
)
from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import ConfigError
from bessemer.training.losses import (
    contrastive,
    cosent,
    cosine_regression,
    matryoshka,
    online_contrastive,
    pair_cross_entropy,
    pair_loss,
)

LEFT = torch.tensor([[1.0, 0.0]] * 3)
RIGHT = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
"""Cosines 0.8, 0.6 and 0."""


def test_cosent_by_hand() -> None:
    # y 3 > 1 > 0 with cosines 0.6 (pair 1), 0.8 (pair 0), 0: at temperature 0.5 the differences s_low - s_high are
    # (0.8 - 0.6) / 0.5 = 0.4, (0 - 0.6) / 0.5 = -1.2 and (0 - 0.8) / 0.5 = -1.6.
    expected = math.log(1 + math.exp(0.4) + math.exp(-1.2) + math.exp(-1.6))
    assert cosent(LEFT, RIGHT, torch.tensor([1.0, 3.0, 0.0]), 0.5).item() == pytest.approx(expected, abs=1e-6)
    # Only the order of the targets counts.
    assert cosent(LEFT, RIGHT, torch.tensor([0.2, 9.0, 0.1]), 0.5).item() == pytest.approx(expected, abs=1e-6)


def test_cosent_of_equal_targets_is_zero_with_a_gradient_of_zero() -> None:
    left = LEFT.clone().requires_grad_()
    loss = cosent(left, RIGHT, torch.tensor([2.0, 2.0, 2.0]), 0.05)
    loss.backward()
    assert loss.item() == 0.0
    assert left.grad is not None
    assert not left.grad.any()


def test_cosine_regression_by_hand() -> None:
    # (0.8 - 1)^2 = 0.04, (0.6 - 0.5)^2 = 0.01, (0 - 0.4)^2 = 0.16
    found = cosine_regression(LEFT, RIGHT, torch.tensor([1.0, 0.5, 0.4])).item()
    assert found == pytest.approx(0.21 / 3, abs=1e-6)


def test_contrastive_by_hand() -> None:
    # Distances 0.2, 0.4, 1.0. Together: 0.2^2 = 0.04; apart within the margin: (0.5 - 0.4)^2 = 0.01; beyond it: 0.
    found = contrastive(LEFT, RIGHT, torch.tensor([1.0, 0.0, 0.0]), margin=0.5).item()
    assert found == pytest.approx(0.05 / 6, abs=1e-6)


def test_online_contrastive_takes_the_hard_pairs_alone() -> None:
    # Distances 0.2, 0.4, 1.0 with labels 1, 0, 1: the positive at 0.2 is nearer than the nearest negative (0.4) and
    # out; left are 1.0^2 and (0.5 - 0.4)^2.
    found = online_contrastive(LEFT, RIGHT, torch.tensor([1.0, 0.0, 1.0]), margin=0.5).item()
    assert found == pytest.approx(1.01, abs=1e-6)
    # All labels alike: those beyond their mean distance, 1.6 / 3.
    assert online_contrastive(LEFT, RIGHT, torch.ones(3), margin=0.5).item() == pytest.approx(1.0, abs=1e-6)
    near = (0.5 - 0.2) ** 2 + (0.5 - 0.4) ** 2
    assert online_contrastive(LEFT, RIGHT, torch.zeros(3), margin=0.5).item() == pytest.approx(near, abs=1e-6)


def test_pair_cross_entropy_by_hand_and_its_target_is_its_minimum() -> None:
    # Logits (cosine - 0.5) / 0.2 of cosines 0.8, 0.6, 0: 1.5, 0.5, -2.5.
    def term(logit: float, y: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -y * math.log(p) - (1 - y) * math.log(1 - p)

    expected = (term(1.5, 1.0) + term(0.5, 0.3) + term(-2.5, 0.0)) / 3
    found = pair_cross_entropy(LEFT, RIGHT, torch.tensor([1.0, 0.3, 0.0]))
    assert found.item() == pytest.approx(expected, abs=1e-6)
    left = LEFT[:1].clone().requires_grad_()
    pair_cross_entropy(left, RIGHT[:1], torch.tensor([1 / (1 + math.exp(-1.5))])).backward()
    assert left.grad is not None
    assert left.grad.abs().max() < 1e-6


SCORES = [0.0, 0.4, 0.4, 0.9, 1.0, 0.2]
LABELS = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("theirs", "ours", "targets"),
    [
        (lambda model: CoSENTLoss(model, scale=20.0), partial(cosent, temperature=0.05), SCORES),
        (lambda model: CoSENTLoss(model, scale=20.0), partial(cosent, temperature=0.05), LABELS),
        (CosineSimilarityLoss, cosine_regression, SCORES),
        (lambda model: ContrastiveLoss(model, margin=0.5), partial(contrastive, margin=0.5), LABELS),
        (lambda model: OnlineContrastiveLoss(model, margin=0.5), partial(online_contrastive, margin=0.5), LABELS),
    ],
    ids=["cosent", "cosent-labels", "cosine_regression", "contrastive", "online_contrastive"],
)
def test_equals_sentence_transformers_with_gradients(
    theirs: Callable[..., torch.nn.Module],
    ours: Callable[..., Tensor],
    targets: list[float],
    minilm: DenseEncoder,
) -> None:
    left = ["A man plays the flute.", "Steel is made.", "A cat sleeps.", "Iron rusts.", "He sings.", "The sun is out."]
    right = ["A dog barks.", "Iron is made.", "A cat sleeps a lot.", "Iron corrodes.", "A man sings.", "It is sunny."]
    model = minilm.model.eval()
    parameters = list(model.parameters())

    def gradient(value: Tensor) -> Tensor:
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    given = torch.tensor(targets)
    expected = theirs(model)([model.preprocess(texts) for texts in (left, right)], given)
    sides = [minilm.embed(minilm.features(minilm.tokenize(texts, "passage"), "passage")) for texts in (left, right)]
    found = ours(*sides, given)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    reference = gradient(expected)
    assert reference.norm() > 0.05
    assert (gradient(found) - reference).norm() <= 1e-5 * reference.norm()


def test_at_every_width() -> None:
    targets = torch.tensor([1.0, 0.5, 0.4])
    found = matryoshka(cosine_regression, (2, 1), normalised=True)(LEFT, RIGHT, targets).item()
    # At width 1 the cosines are 1, 1 and, of a vector of zeros, 0: 0, 0.25, 0.16.
    assert found == pytest.approx((0.21 / 3 + 0.41 / 3) / 2, abs=1e-6)


@pytest.mark.parametrize("labelled", [False, True])
def test_the_default_is_by_the_data(labelled: bool) -> None:
    targets = torch.tensor([1.0, 0.0, 1.0])
    found = pair_loss(FinetuneConfig(), 2, normalised=True, labelled=labelled)(LEFT, RIGHT, targets)
    expected = contrastive(LEFT, RIGHT, targets, margin=0.5) if labelled else cosent(LEFT, RIGHT, targets, 0.05)
    assert found.item() == expected.item()


def test_what_cannot_be_is_refused_with_what_can() -> None:
    def refused(match: str, *, labelled: bool = False, normalised: bool = True, **settings: object) -> None:
        with pytest.raises(ConfigError, match=match):
            pair_loss(FinetuneConfig(**settings), 384, normalised=normalised, labelled=labelled)

    scored = "is no loss for scored pairs; one of: cosent, cosine_regression, pair_cross_entropy$"
    for name in ("contrastive", "info_nce", "kosent"):
        refused(f"finetune.loss: `{name}` {scored}", loss=name)
    refused(
        "`triplet` is no loss for labelled pairs; one of: contrastive, cosent, cosine_regression, online_contrastive, "
        "pair_cross_entropy$",
        labelled=True,
        loss="triplet",
    )
    refused("`cosine_regression` is for cosine models", normalised=False, loss="cosine_regression")
    refused(r"matryoshka_dims: \[512\] not within the model's 384 dimensions", matryoshka_dims=(512,))
