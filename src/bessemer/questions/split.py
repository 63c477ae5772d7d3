"""Train, dev and test by document: nothing is shuffled, so growth moves no document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bessemer.config import SplitConfig
from bessemer.draws import uniform
from bessemer.errors import DataError, Problem

Split = Literal["train", "dev", "test"]
MAX_SEEN, SEEN_SHARE = 200, 0.2
"""Train passages that the slice ``seen`` asks about: a fifth of them, and no more than this."""


def split_by_document(clusters: Mapping[str, str], config: SplitConfig, seed: int) -> Mapping[str, Split]:
    """doc_id -> split, from doc_id -> cluster_id; a cluster is never divided.

    A hash of seed and cluster id gives each cluster a number in [0, 1): below ``config.test`` it is test, in the next
    ``config.dev`` dev, else train. It depends on nothing else, so that a document stays where it is when others come.

    A small corpus may leave a split empty. It then gets the cluster whose number is nearest to its range. That one may
    go back to train when the corpus grows: with fewer than about 30 clusters, judge anew after growth. Raises DataError
    for fewer than three clusters.
    """
    cluster_ids = sorted(set(clusters.values()))
    if len(cluster_ids) < 3:
        n_documents, n_clusters = len(clusters), len(cluster_ids)
        message = (
            f"{n_documents} document(s) in {n_clusters} near-duplicate cluster(s): too few for train, dev and test"
        )
        fix = "give at least 3 different documents (a long file can be cut into one per chapter), or judged data"
        raise DataError([Problem("source", None, "documents", message, fix)])
    numbers = {cluster_id: uniform(seed, cluster_id) for cluster_id in cluster_ids}
    placed = {cluster_id: _place(number, config) for cluster_id, number in numbers.items()}
    _fill_empty(placed, numbers)
    return {doc_id: placed[cluster_id] for doc_id, cluster_id in clusters.items()}


def _place(number: float, config: SplitConfig) -> Split:
    if number < config.test:
        return "test"
    return "dev" if number < config.test + config.dev else "train"


def _fill_empty(placed: dict[str, Split], numbers: Mapping[str, float]) -> None:
    """Give each empty split one cluster of the largest one, lowest numbers first (train: the highest)."""
    order: tuple[Split, ...] = ("test", "dev", "train")
    for split in order:
        members = {name: [c for c, s in placed.items() if s == name] for name in order}
        if members[split]:
            continue
        donor = max(members.values(), key=len)
        choose = max if split == "train" else min
        placed[choose(donor, key=lambda cluster_id: numbers[cluster_id])] = split
