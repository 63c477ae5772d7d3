"""Splits by hash: seeded, never shuffled, and by clusters of shared positives.

A cluster is a connected component of queries over the positives that they share, so that no passage is a positive on
both sides of a split. Where one cluster holds most queries, no such split exists and queries are hashed alone.
"""

from __future__ import annotations

from collections.abc import Collection as Group
from collections.abc import Mapping

from bessemer.components import components
from bessemer.draws import uniform
from bessemer.formats.loaded import Notes
from bessemer.types import Judged, Qrels, Query

SPLITS = ("train", "dev", "test")
DEV_SHARE = 0.1
TEST_SHARE = 0.1


def clusters(positives: Mapping[str, Group[str]]) -> list[tuple[str, ...]]:
    """Query ids (of query_id -> its positives) joined where they share a positive, in the order given."""
    joined: dict[int, list[str]] = {}
    for query_id, label in zip(positives, components(list(positives.values())).tolist(), strict=True):
        joined.setdefault(label, []).append(query_id)
    return [tuple(query_ids) for query_ids in joined.values()]


def _by_hash(positives: Mapping[str, Group[str]], seed: int, notes: Notes) -> list[tuple[float, tuple[str, ...]]]:
    groups = clusters(positives)
    if max(map(len, groups), default=0) * 2 > len(positives) > 1:
        notes.add(
            "split_by_query",
            "{n} queries were split by query: most share positives, so splits share relevant passages",
            len(positives),
        )
        groups = [(query_id,) for query_id in positives]
    # The smallest id names the cluster: it seldom changes when the collection grows.
    return sorted((uniform(seed, min(group)), group) for group in groups)


def carve_dev(positives: Mapping[str, Group[str]], seed: int, notes: Notes) -> frozenset[str]:
    """About a tenth of the train queries (whole clusters, at least one) to serve as dev; none of a single query."""
    groups = _by_hash(positives, seed, notes)
    if len(groups) < 2:
        return frozenset()
    chosen = [group for share, group in groups if share < DEV_SHARE] or [groups[0][1]]
    if len(chosen) == len(groups):
        chosen.pop()
    dev = frozenset(query_id for group in chosen for query_id in group)
    notes.add("dev_carved", "no dev queries were given: {n} were carved from train", len(dev))
    return dev


def split_queries(positives: Mapping[str, Group[str]], seed: int, notes: Notes) -> dict[str, str]:
    """query_id -> train, dev or test: about 80, 10 and 10 of a hundred; each gets a cluster once there are three."""
    groups = _by_hash(positives, seed, notes)
    n_test = n_dev = 0
    if len(groups) >= 3:
        n_test = min(max(1, sum(share < TEST_SHARE for share, _ in groups)), len(groups) - 2)
        below = sum(share < TEST_SHARE + DEV_SHARE for share, _ in groups)
        n_dev = min(max(1, below - n_test), len(groups) - n_test - 1)
    names: dict[str, str] = {}
    for position, (_, group) in enumerate(groups):
        name = "test" if position < n_test else "dev" if position < n_test + n_dev else "train"
        names.update(dict.fromkeys(group, name))
    return names


def split_judged(queries: Mapping[str, Query], qrels: Qrels, seed: int, notes: Notes) -> dict[str, Judged]:
    """Split a collection that came in one piece; queries without a positive go to train."""
    positives = _positives(qrels)
    names = split_queries({key: ids for key, ids in positives.items() if ids}, seed, notes)
    if len(set(names.values())) < len(SPLITS):
        notes.add("unsplit", "{n} queries are too few to split: all in train", len(names))
    return judged_by_name(queries, qrels, {key: names.get(key, "train") for key in queries})


def with_dev(splits: Mapping[str, Judged], seed: int, notes: Notes) -> dict[str, Judged]:
    """``splits`` with a dev carved from train where train is there and dev is not."""
    if "train" not in splits or "dev" in splits:
        return dict(splits)
    train = splits["train"]
    positives = _positives(train.qrels)
    dev = carve_dev({key: ids for key, ids in positives.items() if ids}, seed, notes)
    names = {query.query_id: "dev" if query.query_id in dev else "train" for query in train.queries}
    parts = judged_by_name({query.query_id: query for query in train.queries}, train.qrels, names)
    return parts | {name: judged for name, judged in splits.items() if name != "train"}


def judged_by_name(queries: Mapping[str, Query], qrels: Qrels, names: Mapping[str, str]) -> dict[str, Judged]:
    """One Judged per split name (of query_id -> name), train, dev and test first; empty ones are left out."""
    splits: dict[str, Judged] = {}
    for split in dict.fromkeys((*SPLITS, *names.values())):
        ids = [query_id for query_id in queries if names[query_id] == split]
        if ids:
            judgements = {query_id: qrels[query_id] for query_id in ids if query_id in qrels}
            splits[split] = Judged(tuple(queries[query_id] for query_id in ids), judgements)
    return splits


def _positives(qrels: Qrels) -> dict[str, list[str]]:
    return {key: [passage_id for passage_id, grade in grades.items() if grade > 0] for key, grades in qrels.items()}
