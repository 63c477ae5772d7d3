"""Sentence pairs: correlations by scipy's definitions, AP and F1 against scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from bessemer.encoders.encoder import Encoded
from bessemer.errors import DataError
from bessemer.evaluation.sts import evaluate_labelled_pairs, evaluate_sts, pair_scores


class Angles:
    """Texts are angles in degrees (and a length): their vectors stand at that angle."""

    def __init__(self, similarity: Literal["cosine", "dot"] = "cosine") -> None:
        self.similarity: Literal["cosine", "dot"] = similarity

    def fingerprint_of(self, side: str) -> str:
        return "angles"

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        numbers = np.asarray([[float(part) for part in (text + " 1").split()[:2]] for text in texts])
        angles = np.radians(numbers[:, 0])
        return Encoded((np.stack([np.cos(angles), np.sin(angles)], axis=1) * numbers[:, 1:]).astype(np.float32))

    encode_queries = encode_passages


def test_sts_by_hand() -> None:
    pairs = [("0", "0", 5.0), ("0", "60", 2.5), ("0", "90", 0.0)]  # cosines 1, 0.5, 0: a line
    assert evaluate_sts(Angles(), pairs) == pytest.approx({"spearman": 1.0, "pearson": 1.0, "n_pairs": 3})
    bent = [("0", "0", 5.0), ("0", "60", 1.0), ("0", "90", 2.0)]  # ranks 3 1 2 against 3 2 1: 1 - 6*2/24
    assert evaluate_sts(Angles(), bent)["spearman"] == pytest.approx(0.5)


def test_dot_uses_lengths_and_cosine_does_not() -> None:
    pairs = [("0 3", "0 2", 1.0)]
    assert pair_scores(Angles("cosine"), pairs)[0] == pytest.approx(1.0)
    assert pair_scores(Angles("dot"), pairs)[0] == pytest.approx(6.0)


def test_labelled_pairs_against_scikit_learn() -> None:
    generator = np.random.default_rng(2)
    angles = generator.integers(0, 19, 300) * 5  # many ties
    labels = (generator.random(300) < 1 - angles / 95).astype(int)
    pairs = [("0", str(angle), float(label)) for angle, label in zip(angles, labels, strict=True)]
    found = evaluate_labelled_pairs(Angles(), pairs)
    scores = pair_scores(Angles(), pairs)
    assert found["AP"] == pytest.approx(average_precision_score(labels, scores))
    assert found["F1"] == pytest.approx(max(f1_score(labels, scores >= cut) for cut in np.unique(scores)))
    assert found["F1"] == pytest.approx(f1_score(labels, scores >= found["threshold"]))


def test_degenerate_pairs() -> None:
    assert evaluate_sts(Angles(), [("0", "10", 1.0), ("0", "10", 2.0)])["pearson"] == 0.0
    for pairs in ([], [("0", "1", 2.0), ("0", "2", 2.0)]):
        with pytest.raises(DataError, match="all scores are equal"):
            evaluate_sts(Angles(), pairs)
        with pytest.raises(DataError, match="one kind of label"):
            evaluate_labelled_pairs(Angles(), pairs)
