from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bessemer.training.losses import info_nce, mochi
from bessemer.training.losses.mochi import synthetic_negatives


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def test_without_synthetic_ones_it_is_info_nce() -> None:
    torch.manual_seed(0)
    inputs = (unit(4, 8), unit(9, 8), torch.arange(4), torch.zeros(4, 9, dtype=torch.bool), 0.1)
    assert mochi(*inputs, n_synthetic=0, with_query=0).item() == pytest.approx(info_nce(*inputs).item(), rel=1e-6)


def test_by_hand_with_one_negative_of_each_query() -> None:
    """A mix of n with itself is n, whatever the share: log(1 + 2 e^{(s- - s+)/t}) with one synthetic negative."""
    queries = torch.tensor([[1.0, 0.0]])
    passages = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    found = mochi(
        queries, passages, torch.tensor([0]), torch.zeros(1, 2, dtype=torch.bool), 0.5, n_synthetic=1, with_query=0
    )
    assert found.item() == pytest.approx(0.850424, abs=1e-5)  # log(1 + 2 e^-0.4) = log(2.340640)


def test_mixes_lie_between_their_parents_and_nearer_to_the_query_when_mixed_with_it() -> None:
    torch.manual_seed(1)
    queries, hardest = unit(3, 6), unit(3, 5, 6)
    n_real = torch.tensor([5, 2, 1])
    found = synthetic_negatives(queries, hardest, n_real, 40, 30)
    assert found.shape == (3, 70, 6)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3, 70))
    torch.testing.assert_close(found[2, :40], hardest[2, :1].expand(40, -1))  # one real negative: nothing to mix
    basis = torch.linalg.qr(hardest[1, :2].T)[0]  # the plane of the two real ones
    torch.testing.assert_close(found[1, :40] @ basis @ basis.T, found[1, :40], atol=1e-5, rtol=0)
    towards = torch.einsum("d,nd->n", queries[2], found[2, 40:])
    assert (towards >= queries[2] @ hardest[2, 0] - 1e-6).all()


def test_excluded_passages_are_never_parents_and_gradients_reach_the_query_alone() -> None:
    torch.manual_seed(2)
    queries, passages = unit(2, 4).requires_grad_(), unit(5, 4).requires_grad_()
    excluded = torch.zeros(2, 5, dtype=torch.bool)
    excluded[0, 1:] = True  # query 0 has no negative: loss 0, no synthetic ones
    loss = mochi(queries, passages, torch.tensor([0, 1]), excluded, 0.1, n_synthetic=6, with_query=3)
    loss.backward()
    assert torch.isfinite(loss)
    assert queries.grad[0].abs().max() == 0
    assert queries.grad[1].abs().max() > 0
    assert torch.isfinite(passages.grad).all()
