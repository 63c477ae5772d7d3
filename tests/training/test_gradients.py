"""The gradient report against the chain rule written out on a model of one matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bessemer.encoders.dense import DenseEncoder
from bessemer.training.gradients import Triplet, measure_gradients, shared_triplets
from bessemer.types import HardNegatives, Judged, Passage, Query


def test_statistics_are_those_of_separate_backward_passes(tiny_bert: DenseEncoder) -> None:
    rows = [Triplet("w1 w2", "w3 w4", "w5"), Triplet("w6", "w7 w8 w9", "w10"), Triplet("w2", "w3", "w3 w4")]
    tiny_bert.model.eval()
    gradients, weights = [], []
    for row in rows:
        tiny_bert.model.zero_grad()
        query = tiny_bert.embed(tiny_bert.features(tiny_bert.tokenize([row.query], "query"), "query"))[0]
        texts = [row.positive, row.negative]
        both = tiny_bert.embed(tiny_bert.features(tiny_bert.tokenize(texts, "passage"), "passage"))
        scores = (both @ query) / 0.1
        weight = torch.sigmoid(scores[1] - scores[0])
        (-torch.log(1 - weight)).backward()
        weights.append(weight.item())
        gradients.append(
            np.concatenate([
                np.zeros(p.numel()) if p.grad is None else p.grad.double().numpy().ravel()
                for p in tiny_bert.model.parameters()
            ])
        )  # fmt: skip
    stacked = np.stack(gradients)
    mean = stacked.mean(axis=0)
    (found,) = measure_gradients(tiny_bert, {"given": rows}, 0.1)
    assert (found.strategy, found.n_examples) == ("given", 3)
    assert found.weight == pytest.approx(np.mean(weights), rel=1e-5)
    assert found.norm == pytest.approx(np.linalg.norm(stacked, axis=1).mean(), rel=1e-4)
    assert found.signal == pytest.approx(np.linalg.norm(mean), rel=1e-4)
    assert found.variance == pytest.approx(np.square(stacked - mean).sum(axis=1).mean(), rel=1e-3)


def test_a_negative_that_is_the_positive_has_weight_one_half_and_no_gradient(tiny_bert: DenseEncoder) -> None:
    (found,) = measure_gradients(tiny_bert, {"same": [Triplet("w1", "w2 w3", "w2 w3")]}, 0.05)
    assert found.weight == pytest.approx(0.5)
    assert found.norm == pytest.approx(0, abs=1e-5)


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
    found = shared_triplets(judged, passages, negatives, 10, seed=1)
    assert {t.query for t in found["a"]} == {"question 0", "question 2", "question 3"}  # b has none for q1
    assert [t.query for t in found["a"]] == [t.query for t in found["b"]]
    by_query = {t.query: t for t in found["a"]}
    assert by_query["question 0"] == Triplet("question 0", "text 0", "text 4")
    assert len(shared_triplets(judged, passages, negatives, 2, seed=1)["b"]) == 2
