"""The one order of every ranked list: score descending, then id descending, as trec_eval breaks ties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bessemer.types import Hits


def tie_priority(passage_ids: Sequence[str]) -> NDArray[np.int64]:
    """(N,) the place of each passage among equal scores: 0 for the largest id. Raises ValueError on a repeated id."""
    if len(set(passage_ids)) != len(passage_ids):
        raise ValueError("passage ids must be distinct")
    order = sorted(range(len(passage_ids)), key=passage_ids.__getitem__, reverse=True)
    priority = np.empty(len(passage_ids), dtype=np.int64)
    priority[order] = np.arange(len(passage_ids))
    return priority


def best_hits(
    passage_ids: Sequence[str],
    priority: NDArray[np.int64],
    rows: NDArray[np.integer],
    scores: NDArray[np.floating],
    top_k: int,
) -> Hits:
    """The ``top_k`` best of the passages ``rows`` (n,) with ``scores`` (n,), best first."""
    if len(scores) > top_k:  # all that tie with the last place stay until the ids decide
        kept = scores >= np.partition(scores, -top_k)[-top_k]
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((priority[rows], -scores))[:top_k]
    return [(passage_ids[rows[i]], float(scores[i])) for i in order]


def sort_hits(scored: Iterable[tuple[str, float]]) -> Hits:
    return sorted(scored, key=lambda hit: (hit[1], hit[0]), reverse=True)


def followed_by(head: Hits, tail: Hits) -> Hits:
    """``head``, then ``tail`` in its order with scores below: one less for every place."""
    lowest = head[-1][1] if head else 0.0
    return [*head, *((passage_id, lowest - place) for place, (passage_id, _) in enumerate(tail, start=1))]
