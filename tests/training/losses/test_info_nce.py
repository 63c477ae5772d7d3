from __future__ import annotations

import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from bessemer.encoders.dense import DenseEncoder
from bessemer.training.losses import info_nce

QUERIES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
PASSAGES = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
POSITIVES = torch.tensor([0, 1])
NOTHING = torch.zeros(2, 3, dtype=torch.bool)


def loss(excluded: torch.Tensor) -> float:
    return info_nce(QUERIES, PASSAGES, POSITIVES, excluded, temperature=0.5).item()


def test_by_hand() -> None:
    # logits of query 0: 1.6 1.2 0.0, positive 1.6: log(1 + e^-0.4 + e^-1.6) = log(1.872217) = 0.627123
    # logits of query 1: 1.2 1.6 2.0, positive 1.6: log(1 + e^-0.4 + e^0.4) = log(3.162145) = 1.151250
    assert loss(NOTHING) == pytest.approx((0.627123 + 1.151250) / 2, abs=1e-6)


def test_an_excluded_passage_does_not_count() -> None:
    # Passage 2 is out for query 1: log(1 + e^-0.4) = log(1.670320) = 0.513015
    excluded = torch.tensor([[False, False, False], [False, False, True]])
    assert loss(excluded) == pytest.approx((0.627123 + 0.513015) / 2, abs=1e-6)


def test_the_positive_is_never_excluded() -> None:
    # Each keeps its positive; nothing else is left: -log 1 = 0.
    assert loss(torch.ones(2, 3, dtype=torch.bool)) == 0.0
    only_positives = torch.tensor([[True, False, False], [False, True, False]])
    assert loss(only_positives) == loss(NOTHING)


def test_an_excluded_passage_gets_no_gradient_from_that_query() -> None:
    passages = PASSAGES.clone().requires_grad_()
    excluded = torch.tensor([[False, False, True], [False, False, True]])
    info_nce(QUERIES, passages, POSITIVES, excluded, temperature=0.5).backward()
    assert passages.grad is not None
    assert passages.grad[2].tolist() == [0.0, 0.0]
    assert torch.isfinite(passages.grad).all()


def test_the_softmax_runs_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(16, 64), dim=-1)
    passages = torch.nn.functional.normalize(torch.randn(40, 64), dim=-1)
    inputs = (queries, passages, torch.arange(16), torch.zeros(16, 40, dtype=torch.bool), 0.02)
    plain = info_nce(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = info_nce(*inputs)
        rounded = torch.nn.functional.cross_entropy(queries @ passages.T / 0.02, inputs[2])
    assert under_autocast.dtype == torch.float32
    assert under_autocast.item() == plain.item()
    assert abs(rounded.item() - plain.item()) > 1e-3  # what bf16 logits would have given


def test_equals_multiple_negatives_ranking_loss_with_gradients(minilm: DenseEncoder) -> None:
    queries = ["how is steel made", "what is a blast furnace", "price of iron in 1870", "who was Bessemer"]
    positives = [
        "Air is blown through molten iron.",
        "A tall oven for ore.",
        "Iron cost a few dollars.",
        "An engineer.",
    ]
    negatives = ["Wood floats.", "A lake in the north.", "Gold was dear.", "A river."]
    model = minilm.model.eval()
    parameters = list(model.parameters())

    def gradients(value: torch.Tensor) -> list[torch.Tensor]:
        return [g for g in torch.autograd.grad(value, parameters, allow_unused=True) if g is not None]

    reference = MultipleNegativesRankingLoss(model, scale=20.0)
    expected = reference([model.preprocess(texts) for texts in (queries, positives, negatives)], torch.arange(4))
    sides = [
        minilm.embed(minilm.features(minilm.tokenize(texts, side), side))
        for texts, side in ((queries, "query"), (positives + negatives, "passage"))
    ]
    ours = info_nce(sides[0], sides[1], torch.arange(4), torch.zeros(4, 8, dtype=torch.bool), 0.05)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    pairs = list(zip(gradients(ours), gradients(expected), strict=True))
    assert len(pairs) > 50
    total = torch.cat([b.flatten() for _, b in pairs]).norm()
    assert total > 0.1
    for ours_, theirs in pairs:
        assert (ours_ - theirs).norm() <= 1e-5 * total


def test_same_tower_negatives_by_hand() -> None:
    # Beside 1.6 | 1.2 0.0 query 0 meets query 1 (0.0), and its positive meets passages 1 (1.92) and 2 (1.2);
    # beside 1.6 | 1.2 2.0 query 1 meets query 0 (0.0), and its positive meets passages 0 (1.92) and 2 (1.6).
    first = math.log(sum(math.exp(x) for x in (1.6, 1.2, 0.0, 0.0, 1.92, 1.2))) - 1.6
    second = math.log(sum(math.exp(x) for x in (1.6, 1.2, 2.0, 0.0, 1.92, 1.6))) - 1.6
    found = info_nce(QUERIES, PASSAGES, POSITIVES, NOTHING, 0.5, same_tower=True).item()
    assert found == pytest.approx((first + second) / 2, abs=1e-6)


def test_the_other_direction_by_hand() -> None:
    # Passage 0 meets the queries at 1.6 and 1.2, passage 1 at 1.2 and 1.6: log(1 + e^-0.4) = 0.513015 both times.
    found = info_nce(QUERIES, PASSAGES, POSITIVES, NOTHING, 0.5, symmetric=True).item()
    assert found == pytest.approx(((0.627123 + 1.151250) / 2 + 0.513015) / 2, abs=1e-6)


def test_queries_with_the_same_answer_are_no_negatives_of_each_other() -> None:
    same = torch.tensor([0, 0])
    one_way = info_nce(QUERIES, PASSAGES, same, NOTHING, 0.5).item()
    # The passages' own direction has nothing left to tell apart: it adds 0.
    assert info_nce(QUERIES, PASSAGES, same, NOTHING, 0.5, symmetric=True).item() == pytest.approx(one_way / 2)
    judged = torch.tensor([[False, True, False], [False, False, False]])  # passage 1 answers query 0 as well
    # From passage 1 query 0 is excluded (0), from passage 0 query 1 is not (0.513015).
    forward = info_nce(QUERIES, PASSAGES, POSITIVES, judged, 0.5).item()
    both = info_nce(QUERIES, PASSAGES, POSITIVES, judged, 0.5, symmetric=True).item()
    assert both == pytest.approx((forward + 0.513015 / 2) / 2, abs=1e-6)


def test_equals_the_symmetric_loss_of_sentence_transformers(minilm: DenseEncoder) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesSymmetricRankingLoss

    queries, positives = ["how is steel made", "price of iron"], ["Air is blown through iron.", "A few dollars."]
    model = minilm.model.eval()
    reference = MultipleNegativesSymmetricRankingLoss(model, scale=20.0)
    with torch.no_grad():
        expected = reference([model.preprocess(texts) for texts in (queries, positives)], torch.arange(2))
        sides = [
            minilm.embed(minilm.features(minilm.tokenize(texts, side), side))
            for texts, side in ((queries, "query"), (positives, "passage"))
        ]
        nothing = torch.zeros(2, 2, dtype=torch.bool)
        found = info_nce(*sides, torch.arange(2), nothing, 0.05, symmetric=True)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
