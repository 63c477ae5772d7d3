"""The gradient report against plain torch: one dense backward pass of the written-out loss per example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from bessemer.encoders.dense import DenseEncoder
from bessemer.training.gradients import Contrast, measure_gradients, shared_contrasts
from bessemer.types import HardNegatives, Judged, Passage, Query

TEMPERATURE = 0.1


def contrast(query: str, positive: str, **negatives: str) -> Contrast:
    return Contrast(Query(query, query), positive, negatives)


# "easy" and "hard" agree on the second; texts of several lengths; words that come twice, in one text and in two.
CONTRASTS = [
    contrast("w1 w2", "w3 w4", easy="w5", hard="w3 w6"),
    contrast("w6", "w7 w8 w9", easy="w10", hard="w10"),
    contrast("w2", "w3", easy="w3 w4", hard="w2 w2 w11"),
    contrast("w12 w1 w1", "w13 w1", easy="w14", hard="w13 w1 w15"),
]


def dense_gradients(encoder: DenseEncoder, strategy: str) -> tuple[NDArray[np.float64], list[float]]:
    """(examples, parameters) and the weights: torch.autograd on the loss over a padded batch."""
    gradients, weights = [], []
    for row in CONTRASTS:
        encoder.model.zero_grad()
        query = encoder.embed(encoder.features(encoder.tokenize([row.query.text], "query"), "query"))
        texts = [row.positive, row.negatives[strategy]]
        passages = encoder.embed(encoder.features(encoder.tokenize(texts, "passage"), "passage"))
        logits = query @ passages.T / TEMPERATURE
        F.cross_entropy(logits, torch.tensor([0])).backward()
        weights.append(logits.softmax(dim=1)[0, 1].item())
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in encoder.model.parameters()]
        assert not any(part.is_sparse for part in parts)
        gradients.append(torch.cat([part.double().flatten() for part in parts]).numpy())
    encoder.model.zero_grad()
    return np.stack(gradients), weights


def mean_product_of_pairs(rows: NDArray[np.float64]) -> float:
    return float(np.mean([a @ b for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]))


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_static"])
def test_statistics_are_those_of_separate_dense_backward_passes(model: str, request: pytest.FixtureRequest) -> None:
    encoder: DenseEncoder = request.getfixturevalue(model)
    encoder.model.eval()
    found = measure_gradients(encoder, CONTRASTS, TEMPERATURE)
    assert [row.strategy for row in found] == ["easy", "hard"]
    for row in found:
        gradients, weights = dense_gradients(encoder, row.strategy)
        expected_square = mean_product_of_pairs(gradients)
        mean_square = np.square(gradients).sum(axis=1).mean()
        assert row.n_examples == len(CONTRASTS)
        assert row.weight == pytest.approx(np.mean(weights), rel=1e-5)
        assert row.norm == pytest.approx(np.linalg.norm(gradients, axis=1).mean(), rel=1e-5)
        assert row.signal == pytest.approx(max(0.0, expected_square) ** 0.5, rel=1e-5)
        assert row.variance == pytest.approx(np.var(gradients, axis=0, ddof=1).sum(), rel=1e-5)
        assert row.shared == pytest.approx(expected_square / mean_square, rel=1e-5)


def test_the_model_is_left_as_it_was(tiny_bert: DenseEncoder) -> None:
    tables = [module for module in tiny_bert.model.modules() if isinstance(module, torch.nn.Embedding)]
    tables[0].sparse = True
    tiny_bert.model.train()
    before = tiny_bert.copy_weights()
    try:
        measure_gradients(tiny_bert, CONTRASTS, TEMPERATURE)
        assert tiny_bert.model.training
        assert [table.sparse for table in tables] == [True, *[False] * (len(tables) - 1)]
        assert all(parameter.grad is None for parameter in tiny_bert.model.parameters())
        assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_bert.model.state_dict().items())
    finally:
        tables[0].sparse = False


def test_the_gradient_of_a_token_table_is_sparse(tiny_static: DenseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    grad, found = torch.autograd.grad, []

    def watched(*given: Any, **named: Any) -> Any:
        found.append(grad(*given, **named))
        return found[-1]

    monkeypatch.setattr(torch.autograd, "grad", watched)
    measure_gradients(tiny_static, CONTRASTS[:1], TEMPERATURE)
    assert [table.is_sparse for (table,) in found] == [True] * 3  # of the positive, and of two negatives


def test_a_negative_that_is_the_positive_has_weight_one_half_and_no_gradient(tiny_bert: DenseEncoder) -> None:
    (found,) = measure_gradients(tiny_bert, [contrast("w1", "w2 w3", same="w2 w3")], 0.05)
    assert found.weight == pytest.approx(0.5)
    assert found.norm == pytest.approx(0, abs=1e-5)
    assert np.isnan(found.signal)  # of one example, nothing can be said


def test_nothing_shared_is_no_row(tiny_static: DenseEncoder) -> None:
    assert measure_gradients(tiny_static, [], 0.05) == []


def test_all_strategies_are_measured_on_the_same_queries() -> None:
    passages = [Passage(f"p{i}", "d", f"text {i}") for i in range(6)]
    judged = Judged(
        tuple(Query(f"q{i}", f"question {i}") for i in range(4)), {f"q{i}": {"gone": 1, f"p{i}": 2} for i in range(4)}
    )

    def mined(query: int, *ids: str) -> HardNegatives:
        return HardNegatives(f"q{query}", ids, (0.1,) * len(ids), {}, "")

    negatives = {
        "a": [mined(0, "p4", "p5"), mined(1, "p4"), mined(2, "p5"), mined(3, "p5")],
        "b": [mined(0, "p5"), mined(1), mined(2, "p4"), mined(3, "p4")],
    }
    found = {row.query.query_id: row for row in shared_contrasts(judged, passages, negatives, 10, seed=1)}
    assert found.keys() == {"q0", "q2", "q3"}  # b has none for q1
    assert found["q0"] == Contrast(judged.queries[0], "text 0", {"a": "text 4", "b": "text 5"})
    assert len(shared_contrasts(judged, passages, negatives, 2, seed=1)) == 2
