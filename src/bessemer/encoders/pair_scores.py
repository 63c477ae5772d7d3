"""Scores of single pairs of encoded texts, one per representation, and what they are made of. Light: numpy and scipy.

All are float64 sums over what is kept (see Encoded). Whole corpora are searched elsewhere: this is linear in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.sparse_width import widened
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.encoders.unified_settings import LaneWeights

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]
BLOCK = 1_024
"""Pairs whose dense vectors and sparse rows are gathered at once."""


@dataclass(frozen=True, slots=True)
class PairScores:
    """(n,) scores of n pairs; those not asked for are None. ``ensemble`` is the weighted sum of those that were."""

    dense: Scores | None
    sparse: Scores | None
    multi_vector: Scores | None
    ensemble: Scores


def score_pairs(
    queries: Encoded, passages: Encoded, query_rows: Rows, passage_rows: Rows, lane_weights: LaneWeights
) -> PairScores:
    """Scores of query ``query_rows[i]`` with passage ``passage_rows[i]``, in every representation that both have."""
    lanes = {
        "dense": _dense(queries, passages, query_rows, passage_rows),
        "sparse": _sparse(queries, passages, query_rows, passage_rows),
        "multi_vector": _multi_vector(queries, passages, query_rows, passage_rows),
    }
    ensemble = np.zeros(len(query_rows))
    for lane, scores in lanes.items():
        if scores is not None:
            ensemble += getattr(lane_weights, lane) * scores
    return PairScores(**lanes, ensemble=ensemble)


def _dense(queries: Encoded, passages: Encoded, query_rows: Rows, passage_rows: Rows) -> Scores | None:
    if queries.dense is None or passages.dense is None:
        return None
    scores = np.empty(len(query_rows))
    for start in range(0, len(scores), BLOCK):
        some = slice(start, start + BLOCK)
        left, right = queries.dense[query_rows[some]], passages.dense[passage_rows[some]]
        scores[some] = np.einsum("nd,nd->n", left, right, dtype=np.float64)
    return scores


def _sparse(queries: Encoded, passages: Encoded, query_rows: Rows, passage_rows: Rows) -> Scores | None:
    if queries.sparse is None or passages.sparse is None:
        return None
    scores = np.empty(len(query_rows))
    width = max(queries.sparse.shape[1], passages.sparse.shape[1])
    left, right = widened(queries.sparse, width), widened(passages.sparse, width)
    for start in range(0, len(scores), BLOCK):
        some = slice(start, start + BLOCK)
        products = left[query_rows[some]].multiply(right[passage_rows[some]])
        scores[some] = products.sum(axis=1, dtype=np.float64)
    return scores


def _multi_vector(queries: Encoded, passages: Encoded, query_rows: Rows, passage_rows: Rows) -> Scores | None:
    if queries.multi_vector is None or passages.multi_vector is None:
        return None
    scores = np.zeros(len(query_rows))
    for i, (query, passage) in enumerate(zip(query_rows, passage_rows, strict=True)):
        similarities = token_similarities(queries.multi_vector, int(query), passages.multi_vector, int(passage))
        if similarities.size:
            scores[i] = similarities.max(axis=1).mean(dtype=np.float64)
    return scores


def token_similarities(queries: TokenVectors, query: int, passages: TokenVectors, passage: int) -> NDArray[np.float32]:
    """(query tokens, passage tokens) dot products of the vectors of one query with those of one passage."""
    similarities: NDArray[np.float32] = queries.floats(query, query + 1) @ passages.floats(passage, passage + 1).T
    return similarities
