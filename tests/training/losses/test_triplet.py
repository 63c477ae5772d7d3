from __future__ import annotations

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import TripletLoss
from sentence_transformers.sentence_transformer.losses.triplet import TripletDistanceMetric

from bessemer.encoders.dense import DenseEncoder
from bessemer.training.losses import triplet

QUERIES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
PASSAGES = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
POSITIVES = torch.tensor([0, 1])
NOTHING = torch.zeros(2, 3, dtype=torch.bool)


def test_by_hand() -> None:
    # Query 0: positive 0.8; 0.6 and 0.0 give max(0, 0.6 - 0.8 + 0.3) = 0.1 and 0.
    # Query 1: positive 0.8; 0.6 and 1.0 give 0.1 and 0.5. Mean of the four: 0.175.
    assert triplet(QUERIES, PASSAGES, POSITIVES, NOTHING, margin=0.3).item() == pytest.approx(0.175, abs=1e-6)


def test_an_excluded_passage_makes_no_triplet_and_the_positive_is_none() -> None:
    excluded = torch.tensor([[True, False, False], [False, False, True]])
    # Left: 0.1 and 0 of query 0, 0.1 of query 1.
    assert triplet(QUERIES, PASSAGES, POSITIVES, excluded, margin=0.3).item() == pytest.approx(0.2 / 3, abs=1e-6)


def test_without_negatives_the_loss_and_its_gradient_are_zero() -> None:
    queries = QUERIES.clone().requires_grad_()
    loss = triplet(queries, PASSAGES, POSITIVES, torch.ones(2, 3, dtype=torch.bool), margin=0.3)
    loss.backward()
    assert loss.item() == 0.0
    assert queries.grad is not None
    assert queries.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_equals_the_triplet_loss_of_sentence_transformers_with_gradients(minilm: DenseEncoder) -> None:
    columns = [
        ["how is steel made", "what is a blast furnace", "price of iron in 1870"],
        ["Air is blown through molten iron.", "A tall oven for ore.", "Iron cost a few dollars."],
        ["Steel is dear.", "A furnace warms the house.", "The price of gold in 1870."],
    ]
    model = minilm.model.eval()
    parameters = list(model.parameters())

    def gradient(value: torch.Tensor) -> torch.Tensor:
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    reference = TripletLoss(model, TripletDistanceMetric.COSINE, triplet_margin=0.4)
    expected = reference([model.preprocess(texts) for texts in columns], torch.arange(3))
    sides = [
        minilm.embed(minilm.features(minilm.tokenize(texts, side), side))
        for texts, side in ((columns[0], "query"), (columns[1] + columns[2], "passage"))
    ]
    own_negative_only = ~torch.cat([torch.eye(3, dtype=torch.bool)] * 2, dim=1)
    ours = triplet(*sides, torch.arange(3), own_negative_only, margin=0.4)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    theirs = gradient(expected)
    assert theirs.norm() > 0.1
    assert (gradient(ours) - theirs).norm() <= 1e-5 * theirs.norm()
