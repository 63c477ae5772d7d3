"""Joining the ranked lists of several retrievers into one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from bessemer.errors import ConfigError
from bessemer.search.ranking import sort_hits
from bessemer.types import Hits


def reciprocal_rank_fusion(lists: Sequence[Hits], k: int = 60) -> Hits:
    """``sum over lists of 1 / (k + rank)``, ranks from 1 (Cormack, Clarke and Buettcher, SIGIR 2009).

    A list that lacks a passage adds nothing for it. The order of ``lists`` does not matter.
    """
    parts: defaultdict[str, list[float]] = defaultdict(list)
    for hits in lists:
        for rank, (passage_id, _) in enumerate(hits, start=1):
            parts[passage_id].append(1 / (k + rank))
    return sort_hits((passage_id, math.fsum(values)) for passage_id, values in parts.items())


def _min_max(scores: list[float]) -> list[float]:
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]


def _z_score(scores: list[float]) -> list[float]:
    mean = math.fsum(scores) / len(scores)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
    return [(score - mean) / deviation if deviation > 0 else 0.0 for score in scores]


NORMALISATIONS: Mapping[str, Callable[[list[float]], list[float]]] = {"min-max": _min_max, "z-score": _z_score}


def weighted_fusion(lists: Sequence[Hits], weights: Sequence[float], normalisation: str = "min-max") -> Hits:
    """``sum over lists of weight * normalised score``, the scores normalised within each list.

    A passage that a list lacks takes that list's lowest normalised score: it ranked no higher than the last one.
    Raises ConfigError for an unknown normalisation, ValueError unless there is one weight per list.
    """
    if normalisation not in NORMALISATIONS:
        raise ConfigError(f"unknown normalisation {normalisation!r}; known: {', '.join(NORMALISATIONS)}")
    if len(weights) != len(lists):
        raise ValueError(f"{len(weights)} weights for {len(lists)} lists")
    parts: defaultdict[str, list[float]] = defaultdict(list)
    passage_ids = {passage_id for hits in lists for passage_id, _ in hits}
    for hits, weight in zip(lists, weights, strict=True):
        if not hits:
            continue
        scores = NORMALISATIONS[normalisation]([score for _, score in hits])
        known = dict(zip((passage_id for passage_id, _ in hits), scores, strict=True))
        for passage_id in passage_ids:
            parts[passage_id].append(weight * known.get(passage_id, min(scores)))
    return sort_hits((passage_id, math.fsum(values)) for passage_id, values in parts.items())
