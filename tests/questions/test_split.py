from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.config import SplitConfig
from bessemer.errors import DataError
from bessemer.questions.split import split_by_document

CONFIG = SplitConfig()


def own_clusters(n: int) -> dict[str, str]:
    return {f"doc{number}": f"doc{number}" for number in range(n)}


def test_shares_are_near_the_asked_ones() -> None:
    splits = list(split_by_document(own_clusters(2000), CONFIG, 42).values())
    # 4 standard deviations of a binomial count of 2,000 draws.
    assert abs(splits.count("test") - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5
    assert abs(splits.count("dev") - 200) < 4 * (2000 * 0.1 * 0.9) ** 0.5


def test_growth_moves_no_document() -> None:
    before = split_by_document(own_clusters(100), CONFIG, 7)
    after = split_by_document(own_clusters(1000), CONFIG, 7)
    assert {doc_id: after[doc_id] for doc_id in before} == before


def test_a_cluster_is_never_divided_and_order_does_not_matter() -> None:
    clusters = {f"doc{number}": f"cluster{number % 40}" for number in range(400)}
    splits = split_by_document(clusters, CONFIG, 1)
    assert all(splits[d] == splits[f"doc{int(d[3:]) % 40}"] for d in clusters)
    assert dict(splits) == dict(split_by_document(dict(reversed(clusters.items())), CONFIG, 1))


@given(st.integers(3, 12), st.integers(0, 10_000))
def test_small_corpora_have_all_three_splits(n: int, seed: int) -> None:
    assert set(split_by_document(own_clusters(n), CONFIG, seed).values()) == {"train", "dev", "test"}


@pytest.mark.parametrize("clusters", [{}, {"a": "a"}, {"a": "a", "b": "b"}, {"a": "a", "b": "a", "c": "c"}])
def test_too_few_clusters_are_an_error_that_says_what_to_do(clusters: dict[str, str]) -> None:
    with pytest.raises(DataError, match="too few for train, dev and test; give at least 3"):
        split_by_document(clusters, CONFIG, 42)
