"""Retrieval measures by the names and definitions of ir-measures, and the statistics of paired comparisons."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.errors import ConfigError
from bessemer.types import Hits, Qrels

PRIMARY = "nDCG@10"
"""What verdicts and choices on dev go by."""
SHOWN = (PRIMARY, "R@1", "R@5", "R@10", "RR@10")
"""What a table for people shows; JSON holds all of them."""
EXAMPLES = "Success@5, P@5, R@10, RR@10, nDCG@10, AP@100"
_BLOCK_DRAWS = 1 << 22  # random draws held at once


def per_query(
    results: Mapping[str, Hits], qrels: Qrels, query_ids: Sequence[str], measures: Sequence[str]
) -> dict[str, dict[str, float]]:
    """measure -> query_id -> value, for every one of ``query_ids``, equal to trec_eval's values.

    Unjudged passages are not relevant; gains of nDCG are the grades themselves; a query without results scores the
    measure's default (0). Ties are broken as trec_eval does, before any provider of ir-measures sees the ranking (its
    RR provider would break them the other way). Raises ConfigError for an unknown measure, ValueError for a NaN score.
    """
    import ir_measures

    parsed = {name: _parse(name) for name in measures}
    wanted = set(query_ids)
    judged = {query_id: dict(grades) for query_id, grades in qrels.items() if query_id in wanted}
    run = {query_id: _ranks(results[query_id]) for query_id in query_ids if results.get(query_id)}
    values = {name: dict.fromkeys(query_ids, float(measure.DEFAULT)) for name, measure in parsed.items()}
    names = {measure: [name for name in parsed if parsed[name] == measure] for measure in parsed.values()}
    for metric in ir_measures.iter_calc(list(names), judged, run):
        for name in names[metric.measure]:
            values[name][metric.query_id] = float(metric.value)
    return values


def check_measures(names: Sequence[str]) -> None:
    """Raises ConfigError, with all faults, unless ir-measures knows every name."""
    faults = []
    for name in names:
        try:
            _parse(name)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))


def _parse(name: str) -> Any:
    import ir_measures

    try:
        measure = ir_measures.parse_measure(name)
        known = ir_measures.DefaultPipeline.supports(measure)
    except (NameError, ValueError, SyntaxError, TypeError, KeyError):
        known = False
    if not known:
        raise ConfigError(f"unknown measure {name!r}; measures are named as in ir-measures, such as {EXAMPLES}")
    return measure


def _ranks(hits: Hits) -> dict[str, float]:
    """The ranking as trec_eval reads it, as scores without ties. trec_eval holds scores in float32."""
    with np.errstate(over="ignore"):
        scores = np.asarray([score for _, score in hits], dtype=np.float32).tolist()
    if any(score != score for score in scores):
        raise ValueError("a run holds NaN scores")
    keys = sorted(zip(scores, (passage_id for passage_id, _ in hits), strict=True))
    return {passage_id: float(rank) for rank, (_, passage_id) in enumerate(keys, start=1)}


def paired_bootstrap(
    differences: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[int] | NDArray[np.int64] | None = None,
    n_samples: int = 10_000,
    seed: int = 42,
) -> tuple[float, float]:
    """95% percentile interval of the mean of per-query ``differences``.

    With ``clusters`` (one label per query) whole clusters are drawn, since queries of one cluster are not independent;
    the statistic is the sum of differences over the number of queries drawn (Field and Welsh 2007).
    Raises ValueError without queries.
    """
    sums, counts = _by_cluster(differences, clusters)
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_DRAWS // len(sums))
    means = []
    for start in range(0, n_samples, block):
        drawn = generator.integers(len(sums), size=(min(block, n_samples - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def permutation_test(
    differences: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[int] | NDArray[np.int64] | None = None,
    n_samples: int = 10_000,
    seed: int = 42,
) -> float:
    """Two-sided p of a mean difference this large if the two systems were exchangeable: signs flip per cluster.

    All sign patterns are counted where there are at most ``n_samples``; else that many are drawn, and the observed one
    is counted in, so that p is never 0 (Phipson and Smyth 2010). Raises ValueError without queries.
    """
    sums, _ = _by_cluster(differences, clusters)
    observed = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()  # equal sums must not differ by rounding
    if 2 ** min(len(sums), 60) <= n_samples:
        signs = np.asarray(list(itertools.product((-1.0, 1.0), repeat=len(sums))))
        return float(np.mean(np.abs(signs @ sums) >= observed))
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_DRAWS // len(sums))
    n_extreme = 0
    for start in range(0, n_samples, block):
        shape = (min(block, n_samples - start), len(sums))
        signs = generator.integers(2, size=shape, dtype=np.int8) * 2.0 - 1
        n_extreme += int(np.sum(np.abs(signs @ sums) >= observed))
    return (n_extreme + 1) / (n_samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the number of comparisons by Holm's step-down procedure (1979), in the given order."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _by_cluster(
    differences: Sequence[float] | NDArray[np.float64], clusters: Sequence[int] | NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of differences and number of queries of each cluster."""
    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        raise ValueError("no queries to compare")
    labels = np.arange(len(values)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    if len(labels) != len(values):
        raise ValueError(f"{len(labels)} cluster labels for {len(values)} differences")
    return np.bincount(labels, weights=values).astype(np.float64), np.bincount(labels).astype(np.float64)
