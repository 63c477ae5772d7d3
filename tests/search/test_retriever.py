"""Dense, lexical and hybrid retrievers."""

from __future__ import annotations

import numpy as np
import pytest
from hashed_words import HashedWords

from bessemer.search.retriever import DenseRetriever

TEXTS = {"p1": "red apple", "p2": "green apple pie", "p3": "blue sky", "p4": "blue sky"}


def test_cosine_and_dot_differ_without_normalisation() -> None:
    encoder = HashedWords(similarity="dot")
    long, short = "apple apple apple apple pie pie pie", "apple"
    vectors = encoder.encode_passages([long, short]).dense
    assert vectors is not None
    found = {
        similarity: DenseRetriever(encoder, ["long", "short"], vectors, similarity).search(["apple"], 2)[0]
        for similarity in ("dot", "cosine", None)
    }
    assert [p for p, _ in found["dot"]] == ["long", "short"]
    assert [p for p, _ in found["cosine"]] == ["short", "long"]
    assert found["cosine"][0][1] == pytest.approx(1.0, abs=1e-6)
    assert found[None] == found["dot"]  # the encoder's own


def test_ties_go_to_the_larger_id_whatever_the_order() -> None:
    encoder = HashedWords()
    ids = [f"p{i:02d}" for i in np.random.default_rng(1).permutation(60)]
    vectors = encoder.encode_passages(["same"] * 60).dense
    assert vectors is not None
    [hits] = DenseRetriever(encoder, ids, vectors).search(["same"], 3)
    assert [p for p, _ in hits] == ["p59", "p58", "p57"]


def test_no_queries_and_no_passages() -> None:
    encoder = HashedWords()
    assert DenseRetriever(encoder, ["a"], np.ones((1, 64), dtype=np.float32)).search([], 3) == []
    assert DenseRetriever(encoder, [], np.zeros((0, 64), dtype=np.float32)).search(["x"], 3) == [[]]


def test_broken_vectors_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="NaN"):
        DenseRetriever(HashedWords(), ["a"], np.full((1, 64), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="2 passage ids for 1 vectors"):
        DenseRetriever(HashedWords(), ["a", "b"], np.ones((1, 64), dtype=np.float32))
