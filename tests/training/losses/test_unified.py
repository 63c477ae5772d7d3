"""The unified loss, by hand, by the paper's formula written down again, and by FlagEmbedding's own numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bessemer.encoders.encoder import Output
from bessemer.training.losses import info_nce
from bessemer.training.losses.unified import unified_loss

TEMPERATURE = 0.1


def random_batch(seed: int = 0) -> tuple[dict[Output, Tensor], Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    lanes: tuple[Output, ...] = ("dense", "sparse", "multi_vector")
    scores = {lane: torch.rand(4, 9, generator=random).double().float().requires_grad_() for lane in lanes}
    excluded = torch.rand(4, 9, generator=random) > 0.7
    return scores, torch.tensor([0, 2, 5, 8]), excluded


def by_the_paper(
    scores: dict[Output, Tensor], positives: Tensor, excluded: Tensor, *, self_distillation: bool
) -> Tensor:
    """Query by query, over the passages that count, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for i, positive in enumerate(positives.tolist()):
        counts = [j for j in range(excluded.shape[1]) if j == positive or not excluded[i, j]]
        dense, sparse, multi = (scores[lane][i, counts].double() / TEMPERATURE for lane in scores)
        together = dense + 0.3 * sparse + multi
        at = counts.index(positive)

        def nce(logits: Tensor, at: int = at) -> Tensor:
            return logits.exp().sum().log() - logits[at]

        loss = (nce(dense) + 0.1 * nce(sparse) + nce(multi) + nce(together)) / 4
        if self_distillation:
            p = (together.exp() / together.exp().sum()).detach()

            def taught(logits: Tensor, p: Tensor = p) -> Tensor:
                return -(p * (logits - logits.exp().sum().log())).sum()

            loss = (loss + (taught(dense) + 0.1 * taught(sparse) + taught(multi)) / 3) / 2
        total = total + loss
    return total / len(positives)


@pytest.mark.parametrize("self_distillation", [False, True])
def test_value_and_gradients_are_the_paper_s(self_distillation: bool) -> None:
    scores, positives, excluded = random_batch()
    loss, _ = unified_loss(scores, positives, excluded, TEMPERATURE, self_distillation=self_distillation)
    expected = by_the_paper(scores, positives, excluded, self_distillation=self_distillation)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    found = torch.autograd.grad(loss, list(scores.values()))
    for lean, plain in zip(found, torch.autograd.grad(expected, list(scores.values())), strict=True):
        torch.testing.assert_close(lean, plain, rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    """One query, two passages. Logits at temperature 0.5: dense (2, 0), sparse (0, 0), multi-vector (0, 2); together
    (2, 0) + 0 + (0, 2) = (2, 2). InfoNCE: log(1 + e^-2) = 0.126928, log 2 = 0.693147, log(1 + e^2) = 2.126928, log 2.
    L = (0.126928 + 0.0693147 + 2.126928 + 0.693147) / 4 = 0.754080. The teacher is (1/2, 1/2): L' of dense
    = 1.126928, of sparse 0.693147, of multi-vector 1.126928; L' = 2.3231707 / 3 = 0.774390."""
    scores: dict[Output, Tensor] = {
        "dense": torch.tensor([[1.0, 0.0]]),
        "sparse": torch.zeros(1, 2),
        "multi_vector": torch.tensor([[0.0, 1.0]]),
    }
    given = scores, torch.tensor([0]), torch.zeros(1, 2, dtype=torch.bool), 0.5
    loss, parts = unified_loss(*given, self_distillation=False)
    assert loss.item() == pytest.approx(0.754080, abs=1e-6)
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(
        {"loss_dense": 0.126928, "loss_sparse": 0.693147, "loss_multi_vector": 2.126928, "loss_ensemble": 0.693147},
        abs=1e-6,
    )
    loss, parts = unified_loss(*given, self_distillation=True)
    assert loss.item() == pytest.approx((0.754080 + 0.774390) / 2, abs=1e-6)
    assert parts["loss_distilled_dense"].item() == pytest.approx(1.126928, abs=1e-6)
    assert parts["loss_distilled_sparse"].item() == pytest.approx(math.log(2), abs=1e-6)


def test_a_lane_alone_is_info_nce() -> None:
    torch.manual_seed(0)
    queries, passages = torch.randn(4, 8), torch.randn(9, 8)
    _, positives, excluded = random_batch()
    loss, parts = unified_loss({"sparse": queries @ passages.T}, positives, excluded, 0.5, self_distillation=True)
    assert loss.item() == pytest.approx(info_nce(queries, passages, positives, excluded, 0.5).item(), rel=1e-6)
    assert list(parts) == ["loss_sparse"]


def test_a_query_of_which_only_the_positive_counts_adds_nothing() -> None:
    scores, positives, _ = random_batch()
    loss, parts = unified_loss(scores, positives, torch.ones(4, 9).bool(), TEMPERATURE, self_distillation=True)
    loss.backward()
    assert loss.item() == 0
    assert all(of.grad is not None and not of.grad.any() for of in scores.values())
    assert not any(part.requires_grad for part in parts.values())
