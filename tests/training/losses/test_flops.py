"""The FLOPS regulariser by hand, and as sentence-transformers has it."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers.sparse_encoder.losses import FlopsLoss

from bessemer.training.losses.flops import flops


def test_by_hand() -> None:
    """Means 2, 0.5 and 0 of two texts: 4 + 0.25. The same sum of weights costs less where texts do not share words."""
    assert flops(torch.tensor([[1.0, 1.0, 0.0], [3.0, 0.0, 0.0]])) == pytest.approx(4.25)
    assert flops(torch.tensor([[2.0, 0.0], [2.0, 0.0]])) == 4
    assert flops(torch.tensor([[2.0, 0.0], [0.0, 2.0]])) == 2


def test_gradient_by_hand() -> None:
    """d/dw_ij = 2 mean_j / n, and 0 of a weight of 0, which relu would not let pass either."""
    weights = torch.tensor([[1.0, 1.0], [3.0, 0.0]], requires_grad=True)
    flops(weights).backward()
    torch.testing.assert_close(weights.grad, torch.tensor([[2.0, 0.5], [2.0, 0.0]]))


def test_as_sentence_transformers() -> None:
    torch.manual_seed(0)
    weights = torch.randn(7, 50).relu()
    assert flops(weights) == pytest.approx(FlopsLoss(torch.nn.Identity()).compute_loss_from_embeddings(weights).item())


def test_float32_under_autocast() -> None:
    weights = torch.full((3, 2), 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert flops(weights.bfloat16()).dtype == torch.float32
