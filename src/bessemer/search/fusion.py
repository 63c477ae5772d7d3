"""Joining the ranked lists of several retrievers into one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bessemer.errors import ConfigError
from bessemer.search.ranking import sort_hits
from bessemer.types import Hits

Scores = NDArray[np.float64]


def reciprocal_rank_fusion(lists: Sequence[Hits], k: int = 60) -> Hits:
    """``sum over lists of 1 / (k + rank)``, ranks from 1 (Cormack, Clarke and Buettcher, SIGIR 2009).

    A list that lacks a passage adds nothing for it. The order of ``lists`` does not matter.
    """
    parts: defaultdict[str, list[float]] = defaultdict(list)
    for hits in lists:
        for rank, (passage_id, _) in enumerate(hits, start=1):
            parts[passage_id].append(1 / (k + rank))
    return sort_hits((passage_id, math.fsum(values)) for passage_id, values in parts.items())


def _min_max(scores: Scores) -> Scores:
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)


def _z_score(scores: Scores) -> Scores:
    deviation = scores.std()
    return (scores - scores.mean()) / deviation if deviation > 0 else np.zeros_like(scores)


NORMALISATIONS: Mapping[str, Callable[[Scores], Scores]] = {"min-max": _min_max, "z-score": _z_score}


def weighted_fusion(lists: Sequence[Hits], weights: Sequence[float], normalisation: str = "min-max") -> Hits:
    """``sum over lists of weight * normalised score`` (Bruch et al. 2210.11934), see `normalised_scores`. Raises
    ConfigError for an unknown normalisation, ValueError unless there is one weight per list."""
    if len(weights) != len(lists):
        raise ValueError(f"{len(weights)} weights for {len(lists)} lists")
    passage_ids, scores = normalised_scores(lists, normalisation)
    return sort_hits(zip(passage_ids, (np.asarray(weights) @ scores).tolist(), strict=True))


def normalised_scores(lists: Sequence[Hits], normalisation: str = "min-max") -> tuple[list[str], Scores]:
    """The n passages of all lists, and (lists, n) their scores, normalised within each list.

    A passage that a list lacks takes that list's lowest normalised score: it ranked no higher than the last one. Where
    a list's scores are all equal, as that of its only hit, it has 0: the list must tell what it found from what it did
    not. In an empty list all have 0. Raises ConfigError for an unknown normalisation.
    """
    if normalisation not in NORMALISATIONS:
        raise ConfigError(f"unknown normalisation {normalisation!r}; known: {', '.join(NORMALISATIONS)}")
    passage_ids = list(dict.fromkeys(passage_id for hits in lists for passage_id, _ in hits))
    place = {passage_id: number for number, passage_id in enumerate(passage_ids)}
    scores = np.zeros((len(lists), len(passage_ids)))
    for row, hits in zip(scores, lists, strict=True):
        if hits:
            own = NORMALISATIONS[normalisation](np.array([score for _, score in hits]))
            row[:] = own.min() if own.min() < own.max() else 0.0
            row[[place[passage_id] for passage_id, _ in hits]] = own
    return passage_ids, scores
