"""Fusion of ranked lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.errors import ConfigError
from bessemer.search.fusion import reciprocal_rank_fusion, weighted_fusion
from bessemer.types import Hits

RANKINGS = st.lists(st.lists(st.sampled_from("abcdefghij"), unique=True), max_size=5)


def ranked(ids: list[str]) -> Hits:
    return [(passage_id, float(-rank)) for rank, passage_id in enumerate(ids)]


def test_rrf_by_hand() -> None:
    fused = reciprocal_rank_fusion([ranked(["a", "b"]), ranked(["b", "c"])])
    assert [p for p, _ in fused] == ["b", "a", "c"]
    assert [s for _, s in fused] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_rrf_ties_go_to_the_larger_id() -> None:
    assert [p for p, _ in reciprocal_rank_fusion([ranked(["a"]), ranked(["b"])])] == ["b", "a"]


@given(RANKINGS, st.randoms())
def test_rrf_does_not_depend_on_the_order_of_lists(rankings: list[list[str]], random: object) -> None:
    lists = [ranked(ids) for ids in rankings]
    shuffled = list(lists)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reciprocal_rank_fusion(lists) == reciprocal_rank_fusion(shuffled)


@given(RANKINGS)
def test_rrf_keeps_every_passage_once_in_order(rankings: list[list[str]]) -> None:
    fused = reciprocal_rank_fusion([ranked(ids) for ids in rankings])
    assert sorted(p for p, _ in fused) == sorted({p for ids in rankings for p in ids})
    assert [(s, p) for p, s in fused] == sorted(((s, p) for p, s in fused), reverse=True)


@given(st.lists(st.sampled_from("abcdefghij"), unique=True), st.integers(1, 4))
def test_rrf_of_copies_keeps_the_ranking(ids: list[str], n: int) -> None:
    assert [p for p, _ in reciprocal_rank_fusion([ranked(ids)] * n)] == ids


def test_weighted_by_hand() -> None:
    # min-max: first list 1, 0.5, 0; second 1, 0. c is in both, a and b take the second list's lowest, 0.
    first, second = [("a", 10.0), ("b", 6.0), ("c", 2.0)], [("d", 0.9), ("c", 0.1)]
    fused = dict(weighted_fusion([first, second], [0.7, 0.3]))
    assert fused == pytest.approx({"a": 0.7, "b": 0.35, "c": 0.0, "d": 0.3})
    # z-score of (3, 1): mean 2, deviation 1.
    assert dict(weighted_fusion([[("a", 3.0), ("b", 1.0)]], [2.0], "z-score")) == pytest.approx({"a": 2.0, "b": -2.0})


def test_weighted_with_equal_scores_and_empty_lists() -> None:
    assert weighted_fusion([[("a", 5.0)], []], [1.0, 1.0]) == [("a", 1.0)]
    assert weighted_fusion([[("a", 5.0)]], [1.0], "z-score") == [("a", 0.0)]


def test_the_only_hit_of_a_list_counts() -> None:
    # An error code that stands in one passage alone: words find "c", and nothing else.
    dense, words = [("a", 0.9), ("b", 0.8), ("c", 0.5), ("d", 0.1)], [("c", 7.0)]
    assert dict(weighted_fusion([dense, words], [1.0, 1.0])) == pytest.approx({"a": 1, "b": 0.875, "c": 1.5, "d": 0})
    assert dict(weighted_fusion([dense, [("c", 7.0), ("d", 7.0)]], [1.0, 2.0])) == pytest.approx(
        {"a": 1, "b": 0.875, "c": 2.5, "d": 2}
    )


def test_weighted_faults() -> None:
    with pytest.raises(ConfigError, match="min-max, z-score"):
        weighted_fusion([], [], "sum")
    with pytest.raises(ValueError, match="1 weights for 2 lists"):
        weighted_fusion([[], []], [1.0])
