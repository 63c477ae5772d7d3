"""Which tokens made the score of one query and one passage. Light: numpy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.pair_scores import score_pairs, token_similarities
from bessemer.encoders.unified_settings import LaneWeights

TokenStrings = Callable[[Sequence[int]], list[str]]


@dataclass(frozen=True, slots=True)
class SharedToken:
    """A token of both texts; ``contribution``, the product of its two weights, is its part of the sparse score."""

    token: str
    query_weight: float
    passage_weight: float
    contribution: float


@dataclass(frozen=True, slots=True)
class TokenMatch:
    """The passage token that a query token matched best; the mean of ``similarity`` is the multi-vector score.
    Positions count the tokens that have a vector, from 0."""

    token: str
    position: int
    matched: str
    matched_position: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a passage scored as it did for a query: ``shared`` by falling contribution, ``matches`` in the order of the
    query. Tokens are text of users and documents: escape them before they reach a terminal or a page."""

    dense: float
    sparse: float
    multi_vector: float
    ensemble: float
    shared: tuple[SharedToken, ...]
    matches: tuple[TokenMatch, ...]


def explained(query: Encoded, passage: Encoded, lane_weights: LaneWeights, strings: TokenStrings) -> Explanation:
    """The first query and the first passage; both have all representations. ``strings``: token ids to text."""
    first = np.zeros(1, dtype=np.int64)
    scores = score_pairs(query, passage, first, first, lane_weights)
    assert scores.dense is not None
    assert scores.sparse is not None
    assert scores.multi_vector is not None
    return Explanation(
        float(scores.dense[0]),
        float(scores.sparse[0]),
        float(scores.multi_vector[0]),
        float(scores.ensemble[0]),
        _shared(query, passage, strings),
        _matches(query, passage, strings),
    )


def _shared(query: Encoded, passage: Encoded, strings: TokenStrings) -> tuple[SharedToken, ...]:
    assert query.sparse is not None
    assert passage.sparse is not None
    left, right = query.sparse[[0]], passage.sparse[[0]]
    ids, rows, columns = np.intersect1d(left.indices, right.indices, assume_unique=True, return_indices=True)
    found = zip(strings(ids.tolist()), left.data[rows].tolist(), right.data[columns].tolist(), strict=True)
    tokens = [SharedToken(token, weight, other, weight * other) for token, weight, other in found]
    return tuple(sorted(tokens, key=lambda token: -token.contribution))


def _matches(query: Encoded, passage: Encoded, strings: TokenStrings) -> tuple[TokenMatch, ...]:
    assert query.multi_vector is not None
    assert passage.multi_vector is not None
    similarities = token_similarities(query.multi_vector, 0, passage.multi_vector, 0)
    if not similarities.size:
        return ()
    best = similarities.argmax(axis=1)
    left = strings(query.multi_vector.token_ids.tolist())
    right = strings(passage.multi_vector.token_ids.tolist())
    return tuple(
        TokenMatch(token, position, right[match], int(match), float(similarities[position, match]))
        for position, (token, match) in enumerate(zip(left, best, strict=True))
    )
