"""The comparison of two systems on parts of the queries: by language, length, lexical overlap and origin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.measures import paired_bootstrap
from bessemer.search.analyzer import analyze
from bessemer.text import is_han
from bessemer.types import Passage, Qrels, Query

MIN_QUERIES = 10
MIN_CLUSTERS = 6  # of fewer not even a difference of one sign in all is rarer than 0.05: 2 / 2**5 = 0.0625


def slice_table(
    queries: Sequence[Query],
    groups: Sequence[tuple[str, Sequence[str]]],
    values: tuple[NDArray[np.float64], NDArray[np.float64]],
    labels: NDArray[np.int64],
    n_samples: int,
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row (`slice_row`) per group of queries, and notes on what is not shown.

    ``groups``: (dimension, group of each query); ``values``: the measure of baseline and treatment per query;
    ``labels``: the cluster of each query. A dimension with one group only is left out, as it repeats the whole.
    """
    rows, small = [], []
    base, tuned = values
    for dimension, names in groups:
        members = defaultdict(list)
        for i in range(len(queries)):
            members[names[i]].append(i)
        if len(members) < 2:
            continue
        for name, chosen in members.items():
            title = f"{dimension}: {name}"
            if len(chosen) < MIN_QUERIES:
                small.append(f"{title} ({len(chosen)})")
                continue
            rows.append(slice_row(title, (base[chosen], tuned[chosen]), labels[chosen], n_samples))
    notes = [f"Slices of fewer than {MIN_QUERIES} queries are not shown: {', '.join(small)}."] if small else []
    return rows, notes


def slice_row(
    title: str, values: tuple[NDArray[np.float64], NDArray[np.float64]], labels: NDArray[np.int64], n_samples: int
) -> dict[str, Any]:
    """What both systems measure on some queries, and the difference with its clustered 95% interval; of fewer than
    ``MIN_CLUSTERS`` clusters the ends are None."""
    base, tuned = values
    differences = tuned - base
    enough = len(np.unique(labels)) >= MIN_CLUSTERS
    low, high = paired_bootstrap(differences, labels, n_samples) if enough else (None, None)
    return {
        "slice": title,
        "n_queries": len(differences),
        "base": float(base.mean()),
        "tuned": float(tuned.mean()),
        "difference": float(differences.mean()),
        "ci_low": low,
        "ci_high": high,
    }


def rough_slices_note(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which of ``rows`` have no interval, and why."""
    rough = [row["slice"] for row in rows if row["ci_low"] is None]
    if not rough:
        return []
    return [f"Slices of fewer than {MIN_CLUSTERS} independent groups of queries have no interval: {', '.join(rough)}."]


def query_groups(
    queries: Sequence[Query], qrels: Qrels, passages: Mapping[str, Passage]
) -> list[tuple[str, list[str]]]:
    """(dimension, group of each query) for every dimension."""
    tokens = [analyze(query.text) for query in queries]
    lengths = np.asarray([len(some) for some in tokens], dtype=np.float64)
    overlaps = np.asarray([_overlap(some, q, qrels, passages) for some, q in zip(tokens, queries, strict=True)])
    shorter, longer = np.quantile(lengths, [1 / 3, 2 / 3])
    middle = float(np.median(overlaps))
    return [
        ("language", ["Chinese" if is_han(query.text) else "other than Chinese" for query in queries]),
        ("query length", _named(lengths, lambda n: "short" if n <= shorter else "medium" if n <= longer else "long")),
        ("lexical overlap", _named(overlaps, lambda share: "low" if share <= middle else "high")),
        ("origin", [query.origin for query in queries]),
    ]


def _named(values: NDArray[np.float64], name: Callable[[float], str]) -> list[str]:
    return [name(float(value)) for value in values]


def _overlap(tokens: Sequence[str], query: Query, qrels: Qrels, passages: Mapping[str, Passage]) -> float:
    """The share of the query's distinct tokens that its best-matching positive holds."""
    wanted = set(tokens)
    positives = (p for p, grade in qrels[query.query_id].items() if grade > 0 and p in passages)
    found = (len(wanted & set(analyze(passages[p].indexed_text))) for p in positives)
    return max(found, default=0) / max(1, len(wanted))
