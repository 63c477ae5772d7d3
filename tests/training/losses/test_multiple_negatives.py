"""InfoNCE's further negatives and the weights of hardness against MultipleNegativesRankingLoss of sentence-transformers
6.2, where the formulas coincide, in value and gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor
from torch.nn import functional as F

from bessemer.training.losses import hardness_weighted, info_nce

N, DIMENSION, TEMPERATURE = 6, 8, 0.2
TO_DOC, BACK = ("query_to_doc",), ("query_to_doc", "doc_to_query")
SAME_TOWER = ("query_to_doc", "query_to_query", "doc_to_doc")


def columns(n: int) -> list[Tensor]:
    """Queries, positives and so many columns of negatives, of length 1."""
    torch.manual_seed(0)
    return [F.normalize(torch.randn(N, DIMENSION), dim=-1).requires_grad_() for _ in range(2 + n)]


def ours(embeddings: list[Tensor], *, symmetric: bool = False, same_tower: bool = False) -> Tensor:
    """Normalised once more, as theirs does: the gradients are then those of cosines in both."""
    query, *passages = (F.normalize(column, dim=-1) for column in embeddings)
    nothing = torch.zeros(N, N * len(passages), dtype=torch.bool)
    given = query, torch.cat(passages), torch.arange(N), nothing, TEMPERATURE
    return info_nce(*given, symmetric=symmetric, same_tower=same_tower)


def theirs(embeddings: list[Tensor], directions: tuple[str, ...], partition_mode: str = "joint") -> Tensor:
    loss = MultipleNegativesRankingLoss(None, 1 / TEMPERATURE, directions=directions, partition_mode=partition_mode)
    return loss.compute_loss_from_embeddings(embeddings, torch.arange(N))


def both_ways(embeddings: list[Tensor]) -> Tensor:
    """The mean of their joint softmax over a query's negatives and those of its tower, and of their other direction
    alone, which is twice the mean of both directions less the first."""
    back = 2 * theirs(embeddings, BACK, "per_direction") - theirs(embeddings, TO_DOC)
    return (theirs(embeddings, SAME_TOWER) + back) / 2


CASES: dict[str, tuple[dict[str, bool], int, Callable[[list[Tensor]], Tensor]]] = {
    "symmetric": ({"symmetric": True}, 0, lambda e: theirs(e, BACK, "per_direction")),
    "symmetric, hard negatives": ({"symmetric": True}, 2, lambda e: theirs(e, BACK, "per_direction")),
    "same tower": ({"same_tower": True}, 0, lambda e: theirs(e, SAME_TOWER)),
    "symmetric, same tower": ({"symmetric": True, "same_tower": True}, 0, both_ways),
}
"""Same-tower negatives without hard ones: theirs do not compare a positive with its own query's, ours do."""


@pytest.mark.parametrize("name", CASES)
def test_further_negatives_are_those_of_sentence_transformers(name: str) -> None:
    settings, n, reference = CASES[name]
    embeddings = columns(n)
    found, expected = ours(embeddings, **settings), reference(embeddings)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert abs(found.item() - ours(embeddings).item()) > 0.01  # the further negatives count
    gradients, reference_gradients = (torch.autograd.grad(loss, embeddings) for loss in (found, expected))
    for ours_, theirs_ in zip(gradients, reference_gradients, strict=True):
        assert theirs_.norm() > 0.01
        torch.testing.assert_close(ours_, theirs_, rtol=1e-4, atol=1e-6)


def test_hard_negatives_of_the_same_tower_are_one_more_for_each_query_than_theirs() -> None:
    """Ours has the positive against its own query's hard negative in the sum, theirs leaves it out."""
    embeddings = columns(1)
    query, positive, negative = embeddings
    per_query = []
    passages = torch.cat([positive, negative])
    for i in range(N):
        one = [query[i] @ passages.T, query[i] @ query[torch.arange(N) != i].T]
        one.append(positive[i] @ passages[[j for j in range(2 * N) if j % N != i]].T)
        scores = torch.cat(one) / TEMPERATURE
        more = torch.cat([scores, (positive[i] @ negative[i] / TEMPERATURE)[None]])
        per_query.append((scores.logsumexp(0) - scores[i], more.logsumexp(0) - scores[i]))
    without, with_it = (torch.stack(losses).mean().item() for losses in zip(*per_query, strict=True))
    assert theirs(embeddings, SAME_TOWER).item() == pytest.approx(without, rel=1e-5)
    assert ours(embeddings, same_tower=True).item() == pytest.approx(with_it, rel=1e-5)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_hardness_is_theirs_over_the_mean_weight_of_the_negatives(beta: float) -> None:
    """They multiply each negative by w_j = e^{beta s_j} (Lan et al. 2025), Robinson et al. by w_j over the mean w of
    the query's negatives: so e^loss - 1, the negatives' sum over the positive, is theirs over that mean."""
    query, *passages = (column.detach() for column in columns(3))
    one = [query[:1], *(column[:1] for column in passages)]  # one query with its positive and three negatives
    loss = MultipleNegativesRankingLoss(None, 1 / TEMPERATURE, hardness_mode="all_negatives", hardness_strength=beta)
    their_sum = loss.compute_loss_from_embeddings(one, torch.arange(1)).exp() - 1
    mean_weight = (beta * torch.cat([one[0] @ negative.T for negative in one[2:]])).exp().mean()
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    given = one[0], torch.cat(one[1:]), torch.tensor([0]), nothing, TEMPERATURE
    found = hardness_weighted(*given, beta=beta, class_prior=0.0).exp() - 1
    assert abs(mean_weight.item() - 1) > 0.01
    assert found.item() == pytest.approx((their_sum / mean_weight).item(), rel=1e-4)


def test_hardness_is_theirs_where_the_mean_weight_is_one() -> None:
    """e^0.4 + e^x = 2: scores of 0.4 and x of the negatives have weights of mean 1 at beta 1."""
    x = torch.tensor(2 - torch.tensor(0.4).exp().item()).log().item()
    query = torch.tensor([[1.0, 0.0]])
    passages = [torch.tensor([[score, (1 - score**2) ** 0.5]]) for score in (0.3, 0.4, x)]
    loss = MultipleNegativesRankingLoss(None, 1 / TEMPERATURE, hardness_mode="hard_negatives", hardness_strength=1.0)
    expected = loss.compute_loss_from_embeddings([query, *passages], torch.arange(1))
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    given = query, torch.cat(passages), torch.tensor([0]), nothing, TEMPERATURE
    found = hardness_weighted(*given, beta=1.0, class_prior=0.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert abs(found.item() - info_nce(*given).item()) > 0.05  # the weights count
