"""The best hits of an index in the order of a reranker, as one more lane of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LANE, DEPTH = "reranker", 50
"""How many hits are read again, where no more are asked for."""

Reranker = Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]
"""Pairs of query and passage to scores (n,), higher is more relevant."""

Hit = Mapping[str, Any]


def pairs_of(query: str, hits: Sequence[Hit]) -> list[tuple[str, str]]:
    return [(query, hit["text"]) for hit in hits]


def reranked(hits: Sequence[Hit], scores: Sequence[float], top_k: int) -> list[dict[str, Any]]:
    """The ``top_k`` best of ``hits`` by ``scores``, one for each, which take the place of their own; equal ones by id,
    as everywhere."""
    order = sorted(range(len(hits)), key=lambda place: (scores[place], hits[place]["passage_id"]), reverse=True)
    return [
        {
            **hits[place],
            "score": float(scores[place]),
            "lanes": {**hits[place]["lanes"], LANE: {"rank": rank, "score": float(scores[place])}},
        }
        for rank, place in enumerate(order[:top_k], start=1)
    ]
