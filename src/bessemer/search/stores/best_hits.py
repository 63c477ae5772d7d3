"""The best k of an engine's ranking where the engine has an order of its own among equal scores."""

from __future__ import annotations

from collections.abc import Callable

from bessemer.search.ranking import sort_hits
from bessemer.types import Hits

MARGIN = 16


def best_of(fetch: Callable[[int], Hits], top_k: int, most: int | None = None) -> Hits:
    """``fetch(limit)`` gives the ``limit`` best, best score first, and more of them until all that tie with the last
    place are there, so that the ids decide. ``most`` is the largest limit that the engine takes; of ties beyond it
    the engine's own choice stands. Raises ValueError for ``top_k`` below 1."""
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, not {top_k}")
    limit = top_k + MARGIN
    while True:
        limit = limit if most is None else min(limit, most)
        hits = fetch(limit)
        if len(hits) < limit or hits[-1][1] < hits[top_k - 1][1] or limit == most:
            return sort_hits(hits)[:top_k]
        limit *= 4
