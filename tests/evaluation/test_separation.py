"""Histograms of positive and negative scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bessemer.evaluation.separation import Vectors, separation
from bessemer.types import Hits, Run


def test_counts_and_auc_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    query_ids, passage_ids = [f"q{i}" for i in range(20)], [f"p{i}" for i in range(50)]
    qrels = {q: {f"p{i}": 1, f"p{i + 1}": 0} for i, q in enumerate(query_ids)}
    hits: dict[str, Hits] = {q: [(p, 0.0) for p in generator.permutation(passage_ids)[:15]] for q in query_ids}
    systems = {
        name: Vectors(generator.standard_normal((20, 8)).astype("f4"), generator.standard_normal((50, 8)).astype("f4"))
        for name in ("base", "tuned")
    }
    found = separation(systems, query_ids, passage_ids, qrels, Run("base", hits))
    for name, vectors in systems.items():
        queries = vectors.queries / np.linalg.norm(vectors.queries, axis=1, keepdims=True)
        passages = vectors.passages / np.linalg.norm(vectors.passages, axis=1, keepdims=True)
        cosines = queries @ passages.T
        positive = [cosines[i, i] for i in range(20)]
        negative = [
            cosines[i, int(p[1:])] for i, q in enumerate(query_ids) for p, _ in
            [hit for hit in hits[q] if hit[0] != f"p{i}"][:10]
        ]  # fmt: skip
        assert found[name]["auc"] == pytest.approx(
            roc_auc_score([1] * 20 + [0] * len(negative), [*positive, *negative])
        )
        assert found[name]["positive"] == np.histogram(positive, found["edges"])[0].tolist()
        assert sum(found[name]["positive"]) == 20
        assert sum(found[name]["negative"]) == len(negative) == 200


def test_ties_count_half_and_missing_kinds_are_none() -> None:
    ones = Vectors(np.ones((1, 2), dtype="f4"), np.ones((3, 2), dtype="f4"))
    run = Run("base", {"q": [("a", 1.0), ("b", 1.0), ("gone", 1.0)]})
    found = separation({"base": ones}, ["q"], ["a", "b", "c"], {"q": {"a": 1}}, run)
    assert found["base"]["auc"] == 0.5
    assert sum(found["base"]["positive"]) == sum(found["base"]["negative"]) == 1  # cosine 1 is inside the last edge
    assert separation({"base": ones}, ["q"], ["a", "b", "c"], {}, run)["base"]["auc"] is None
