from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from multi_vectors import random_rows

from bessemer.encoders.encoder import Encoded
from bessemer.search.sparse import SparseRetriever, active_dimensions


class Fixed:
    similarity = "dot"

    def __init__(self, rows: sp.csr_array) -> None:
        self.rows = rows

    def encode_queries(self, texts: object) -> Encoded:
        return Encoded(sparse=self.rows)


def test_by_hand() -> None:
    """Shared ids only: a = 2 * .5 + 1 * .25, b = 1 * 3, c shares nothing."""
    queries = sp.csr_array(np.array([[2, 1, 0, 0]], dtype=np.float32))
    passages = sp.csr_array(np.array([[0.5, 0.25, 9, 0], [0, 3, 0, 0], [0, 0, 4, 4]], dtype=np.float32))
    [hits] = SparseRetriever(Fixed(queries), ["a", "b", "c"], passages).search(["q"], 5)  # type: ignore[arg-type]
    assert hits == [("b", 3.0), ("a", 1.25)]
    assert active_dimensions(passages) == 2.0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 8), st.integers(1, 20), st.integers(1, 12), st.integers(0, 99), st.integers(1, 25))
def test_equals_the_dense_product(n_queries: int, n: int, vocabulary: int, seed: int, k: int) -> None:
    queries, passages = random_rows(n_queries, vocabulary, seed), random_rows(n, vocabulary, seed + 1)
    ids = [f"{i:02d}" for i in np.random.default_rng(seed).permutation(n)]
    retriever = SparseRetriever(Fixed(queries), ids, passages)  # type: ignore[arg-type]
    expected = queries.toarray() @ passages.toarray().T
    assert retriever.scores(Encoded(sparse=queries)) == pytest.approx(expected, abs=1e-6)
    for hits, row in zip(retriever.search_encoded(Encoded(sparse=queries), k), expected, strict=True):
        ranked = sorted(((ids[j], s) for j, s in enumerate(row.tolist()) if s > 0), key=lambda hit: -hit[1])[:k]
        assert [s for _, s in hits] == pytest.approx([s for _, s in ranked], abs=1e-6)
        assert {name: dict(hits)[name] for name, _ in hits} == pytest.approx(
            {name: float(row[ids.index(name)]) for name, _ in hits}, abs=1e-6
        )


def test_ties_empty_rows_and_bad_input() -> None:
    same = sp.csr_array(np.ones((30, 2), dtype=np.float32))
    ids = [f"p{i:02d}" for i in np.random.default_rng(1).permutation(30)]
    queries = sp.csr_array(np.array([[1, 1], [0, 0]], dtype=np.float32))
    some, none = SparseRetriever(Fixed(queries), ids, same).search(["a", ""], 2)  # type: ignore[arg-type]
    assert some == [("p29", 2.0), ("p28", 2.0)]
    assert none == []
    assert active_dimensions(same[:0]) == 0.0
    with pytest.raises(ValueError, match="30 rows"):
        SparseRetriever(Fixed(queries), ["a"], same)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no sparse vectors"):
        SparseRetriever(Fixed(queries), ids, same).search_encoded(Encoded(), 1)  # type: ignore[arg-type]
