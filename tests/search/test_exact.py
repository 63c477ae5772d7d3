"""Exact search against a full sort in float64."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bessemer.search import exact
from bessemer.search.exact import ExactSearch

Vectors = NDArray[np.float32]


def random_vectors(n: int, d: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def by_sorting(queries: Vectors, passages: Vectors, k: int) -> NDArray[np.int64]:
    scores = (queries.astype(np.float64) @ passages.astype(np.float64).T).astype(np.float32)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 90), k=st.integers(1, 100), query_block=st.integers(1, 9), passage_block=st.integers(1, 100),
    copies=st.integers(0, 60), seed=st.integers(0, 99),
)  # fmt: skip
def test_equal_to_sorting_for_all_block_sizes(
    n: int, k: int, query_block: int, passage_block: int, copies: int, seed: int
) -> None:
    queries, passages = random_vectors(5, 8, seed), random_vectors(n, 8, seed + 1)
    passages[:copies] = passages[0]  # ties
    scores, indices = ExactSearch(passages).top_k(queries, k, query_block=query_block, passage_block=passage_block)
    np.testing.assert_array_equal(indices, by_sorting(queries, passages, k))
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ passages.T, indices, axis=1), atol=1e-5)


def test_real_width_and_bitwise_equal_blocks() -> None:
    queries, passages = random_vectors(200, 384, 0), random_vectors(12_000, 384, 1)
    scores, indices = ExactSearch(passages).top_k(queries, 100)
    np.testing.assert_array_equal(indices, by_sorting(queries, passages, 100))
    for query_block, passage_block in ((7, 501), (40, 3000), (64, 128), (200, 12_000)):
        again = ExactSearch(passages).top_k(queries, 100, query_block=query_block, passage_block=passage_block)
        np.testing.assert_array_equal(again[0], scores)
        np.testing.assert_array_equal(again[1], indices)


def test_more_candidates_than_are_held_at_once() -> None:
    """Every passage ties for some queries; the others have an order of their own."""
    queries, passages = random_vectors(90, 8, 0), random_vectors(700, 8, 1)
    queries[::2] = 0
    with mock.patch.object(exact, "MOST_CANDIDATES", 5000):
        _, indices = ExactSearch(passages).top_k(queries, 20, passage_block=100)
    np.testing.assert_array_equal(indices, by_sorting(queries, passages, 20))


def test_ties_at_the_edge_follow_the_priority() -> None:
    passages = np.ones((300, 4), dtype=np.float32)
    priority = np.random.default_rng(0).permutation(300)
    search = ExactSearch(passages, priority=priority)
    _, indices = search.top_k(np.ones((1, 4), dtype=np.float32), 5, passage_block=32)
    assert priority[indices[0]].tolist() == [0, 1, 2, 3, 4]


def test_passages_in_rising_order() -> None:
    """Every block beats all before it."""
    passages = np.arange(1, 2001, dtype=np.float32)[:, None]
    _, indices = ExactSearch(passages).top_k(np.ones((1, 1), dtype=np.float32), 3, passage_block=100)
    assert indices.tolist() == [[1999, 1998, 1997]]


def test_vectors_that_may_not_be_written_to() -> None:
    queries, passages = random_vectors(70, 16, 0), random_vectors(500, 16, 1)
    expected = by_sorting(queries, passages, 7)
    passages.flags.writeable = queries.flags.writeable = False
    np.testing.assert_array_equal(ExactSearch(passages).top_k(queries, 7)[1], expected)


def test_empty_sides() -> None:
    some, none = random_vectors(3, 4, 0), np.zeros((0, 4), dtype=np.float32)
    assert ExactSearch(some).top_k(none, 2)[1].shape == (0, 2)
    assert ExactSearch(none).top_k(some, 2)[1].shape == (3, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["queries", "passages"])
def test_values_that_are_not_finite_are_refused(value: float, side: str) -> None:
    vectors = {"queries": random_vectors(3, 4, 0), "passages": random_vectors(9, 4, 1)}
    vectors[side][1, 2] = value
    with pytest.raises(ValueError, match=side):
        ExactSearch(vectors["passages"]).top_k(vectors["queries"], 2)


def test_shapes_and_k_are_checked() -> None:
    with pytest.raises(ValueError, match="must be"):
        ExactSearch(random_vectors(3, 5, 0)).top_k(random_vectors(3, 4, 0), 2)
    with pytest.raises(ValueError, match="must be"):
        ExactSearch(random_vectors(1, 5, 0)[0])
    with pytest.raises(ValueError, match="at least 1"):
        ExactSearch(random_vectors(3, 4, 0)).top_k(random_vectors(3, 4, 0), 0)
