"""What cheap scores leave must hold the k best of float64, whichever precision they are of."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bessemer.search import approximate
from bessemer.search.approximate import bf16_residual, candidates

Vectors = NDArray[np.float32]

N_QUERIES = approximate.BF16_FROM


def spread(n: int, width: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def crowded(n: int, width: int, seed: int) -> Vectors:
    """All about one direction, as the cosines of many models are."""
    return (spread(n, width, seed) * 0.05 + 1).astype(np.float32)


def opposed(n: int, width: int, seed: int) -> Vectors:
    """Against queries of `crowded`, every score is negative."""
    return -crowded(n, width, seed)


def half_way(n: int, width: int, seed: int) -> Vectors:
    """1 + 2^-8 lies half-way between two bf16 numbers: the largest relative error that rounding makes."""
    signs = np.random.default_rng(seed).integers(0, 2, (n, width))
    return np.where(signs, np.float32(1 + 2**-8 - 2**-20), np.float32(1 + 2**-8 + 2**-20)).astype(np.float32)


def found(queries: Vectors, passages: Vectors, k: int, *, bf16: bool, block: int = 700) -> list[set[int]]:
    with mock.patch.object(approximate, "has_native_bf16", return_value=bf16):
        longest = float(np.linalg.norm(passages.astype(np.float64), axis=1).max())
        pairs = candidates(
            queries, passages, k, longest=longest, residual=bf16_residual(passages), block=block, most=1 << 30
        )
    assert pairs is not None
    assert np.all(np.diff(pairs[0]) >= 0)
    return [set(pairs[1][pairs[0] == i].tolist()) for i in range(len(queries))]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("make", [spread, crowded, opposed, half_way])
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 99), width=st.sampled_from([1, 3, 64]), k=st.integers(1, 30), scale=st.sampled_from([1e-3, 50])
)
def test_no_passage_of_the_best_is_missing(
    make: Callable[..., Vectors], bf16: bool, seed: int, width: int, k: int, scale: float
) -> None:
    queries = crowded(N_QUERIES, width, seed) if make is opposed else make(N_QUERIES, width, seed)
    passages = make(900, width, seed + 1) * np.float32(scale)
    scores = (queries.astype(np.float64) @ passages.astype(np.float64).T).astype(np.float32)
    kth = -np.sort(-scores, axis=1)[:, k - 1]
    for row, floor, kept in zip(scores, kth, found(queries, passages, k, bf16=bf16), strict=True):
        assert set(np.flatnonzero(row >= floor).tolist()) <= kept  # the k best and what ties with the last of them


def test_few_passages_are_left() -> None:
    """Not a certificate for its own sake: of 20,000 unit vectors, little more than the 50 best are kept."""
    queries, passages = spread(N_QUERIES, 384, 0), spread(20_000, 384, 1)
    passages /= np.linalg.norm(passages, axis=1, keepdims=True)
    in_float32 = np.mean([len(kept) for kept in found(queries, passages, 50, bf16=False, block=16_384)])
    in_bf16 = np.mean([len(kept) for kept in found(queries, passages, 50, bf16=True, block=16_384)])
    assert 50 <= in_float32 < 51
    assert 51 < in_bf16 < 100


def test_more_than_wanted_is_none() -> None:
    same = np.ones((N_QUERIES, 4), dtype=np.float32)
    assert candidates(same, same, 3, longest=2.0, residual=0.0, block=16, most=N_QUERIES * N_QUERIES - 1) is None


def test_residual() -> None:
    """1 + 2^-9 becomes 1; 0.5 stays: sqrt(3) * 2^-9 is lost by the second row."""
    vectors = np.array([[0.5, 1.0, 0.0], [1 + 2**-9] * 3], dtype=np.float32)
    with mock.patch.object(approximate, "has_native_bf16", return_value=True):
        assert bf16_residual(vectors) == pytest.approx(3**0.5 * 2**-9, rel=1e-6)
    with mock.patch.object(approximate, "has_native_bf16", return_value=False):
        assert bf16_residual(vectors) == 0


def test_bits_of_bf16_numbers_compare_like_them() -> None:
    values = torch.tensor([-2.0, -0.0, 0.0, 1e-38, 0.5, 0.5039, 3.0, torch.inf, -torch.inf]).bfloat16()
    for floor in (1e-38, 0.5, 2.9, 0.0, -1.0):
        limit = torch.tensor([floor]).bfloat16()
        left, right = approximate._ordered_alike(values, limit)
        np.testing.assert_array_equal(left >= right, (values >= limit).numpy())
