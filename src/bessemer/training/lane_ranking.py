"""Exact ranking of a pool by what a head trains, so that checkpoints are chosen by what was learnt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bessemer.config.finetune import Head
from bessemer.encoders.encoder import Encoded
from bessemer.encoders.scoring import MaskedVectors, max_sim
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.training.lanes import LANES

PASSAGES_AT_ONCE = 512
"""Whose outputs are held: token vectors of 200 tokens in float16 take 80 MB."""
QUERIES_SCORED, PASSAGES_SCORED = 64, 32

Scores = NDArray[np.float32]


def best_of_lanes(
    encoder: UnifiedEncoder, head: Head, queries: Sequence[str], passages: Sequence[str], priority: NDArray[np.int64]
) -> tuple[Scores, NDArray[np.int64]]:
    """(Q, 10) scores and (Q, 10) rows of ``passages``, best first; equal scores by ``priority``. Of ``unified`` by the
    model's own lane weights. Passages are encoded a block at a time: none but the best ten are remembered."""
    outputs = LANES[head]
    asked = encoder.encode_queries(queries, outputs)
    scores: Scores = np.empty((len(queries), 0), np.float32)
    rows: NDArray[np.int64] = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(passages), PASSAGES_AT_ONCE):
        found = encoder.encode_passages(passages[start : start + PASSAGES_AT_ONCE], outputs)
        new = _ensemble(asked, found, encoder if head == "unified" else None)
        here = np.broadcast_to(np.arange(start, start + new.shape[1]), new.shape)
        scores, rows = np.concatenate([scores, new], axis=1), np.concatenate([rows, here], axis=1)
        best = np.lexsort((priority[rows], -scores), axis=1)[:, :10]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
    return scores, rows


def _ensemble(queries: Encoded, passages: Encoded, weighing: UnifiedEncoder | None) -> Scores:
    """(Q, P) the weighted sum of the lanes that are there; without weights, of the only one."""
    weights = weighing.lane_weights if weighing else (1.0, 1.0, 1.0)
    lanes: list[Scores] = []
    if queries.dense is not None and passages.dense is not None:
        lanes.append(weights[0] * (queries.dense @ passages.dense.T))
    if queries.sparse is not None and passages.sparse is not None:
        lanes.append(weights[1] * (queries.sparse @ passages.sparse.T).toarray())
    if queries.multi_vector is not None and passages.multi_vector is not None:
        lanes.append(weights[2] * _max_sim(queries.multi_vector, passages.multi_vector))
    scores: Scores = np.sum(lanes, axis=0, dtype=np.float32)
    return scores


def _max_sim(queries: TokenVectors, passages: TokenVectors) -> Scores:
    """(Q, P), a block of queries with a block of passages of like length at a time."""
    by_length = np.argsort(np.diff(passages.offsets), kind="stable")
    passages, scores = passages.of(by_length), np.empty((len(queries), len(passages)), np.float32)
    for first in range(0, len(passages), PASSAGES_SCORED):
        block = _padded(passages, first, first + PASSAGES_SCORED)
        for row in range(0, len(queries), QUERIES_SCORED):
            found = max_sim([_padded(queries, row, row + QUERIES_SCORED)], [block]).numpy()
            scores[row : row + QUERIES_SCORED, by_length[first : first + PASSAGES_SCORED]] = found
    return scores


def _padded(vectors: TokenVectors, start: int, end: int) -> MaskedVectors:
    """Of the texts from ``start`` up to ``end``, where there are so many."""
    end = min(end, len(vectors))
    lengths = torch.from_numpy(np.diff(vectors.offsets[start : end + 1]))
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    rows = torch.zeros(*mask.shape, vectors.dimension)
    rows[mask] = torch.from_numpy(np.ascontiguousarray(vectors.floats(start, end)))
    return rows, mask
