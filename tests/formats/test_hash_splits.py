from __future__ import annotations

import pytest

from bessemer.draws import uniform
from bessemer.formats.loaded import Notes
from bessemer.formats.splits import carve_dev, clusters, split_queries


def alone(n: int) -> dict[str, list[str]]:
    return {f"q{i}": [f"p{i}"] for i in range(n)}


def test_clusters_join_over_chains_of_shared_positives() -> None:
    positives = {"a": ["1"], "b": ["2"], "c": ["1", "3"], "d": ["3"], "1": ["4"]}  # a query may be named like a passage
    assert clusters(positives) == [("a", "c", "d"), ("b",), ("1",)]


def test_shares_are_near_80_10_10_and_no_positive_is_shared() -> None:
    positives = {f"q{i}": [f"p{i // 3}"] for i in range(3000)}
    notes = Notes()
    names = split_queries(positives, 7, notes)
    counts = {split: sum(name == split for name in names.values()) for split in ("train", "dev", "test")}
    assert counts["dev"] == pytest.approx(300, abs=120)  # four standard deviations of 3 * binomial(1000, .1)
    assert counts["test"] == pytest.approx(300, abs=120)
    assert all(names[f"q{i}"] == names[f"q{i // 3 * 3}"] for i in range(3000))
    assert notes.counts == {}


def test_growth_moves_no_query_out_of_its_split() -> None:
    before, after = (split_queries(alone(n), 42, Notes()) for n in (300, 900))
    assert {query_id: after[query_id] for query_id in before} == before


@pytest.mark.parametrize("n", range(3, 12))
def test_small_sets_still_get_three_splits(n: int) -> None:
    assert set(split_queries(alone(n), 1, Notes()).values()) == {"train", "dev", "test"}


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_clusters_are_all_train(n: int) -> None:
    assert set(split_queries(alone(n), 1, Notes()).values()) == {"train"}


def test_where_all_share_positives_queries_are_hashed_alone_and_it_is_said() -> None:
    notes = Notes()
    dev = carve_dev({f"q{i}": ["hub", f"p{i}"] for i in range(500)}, 42, notes)
    assert dev == {f"q{i}" for i in range(500) if uniform(42, f"q{i}") < 0.1}
    assert notes.counts["split_by_query"] == 500
    assert notes.counts["dev_carved"] == len(dev)


def test_dev_has_at_least_one_query_and_leaves_one_to_train() -> None:
    assert carve_dev(alone(1), 42, Notes()) == frozenset()
    assert all(len(carve_dev(alone(2), seed, Notes())) == 1 for seed in range(50))
