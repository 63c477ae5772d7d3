"""Exact ranking of a pool by what a head trains, so that checkpoints are chosen by what was learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bessemer.config.finetune import Head
from bessemer.encoders.encoder import Encoded, Encoder, Output
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ArtifactError
from bessemer.search.ensemble import weighted_sum
from bessemer.search.max_sim import MaxSim
from bessemer.training.lanes import LANES

PASSAGES_AT_ONCE = 512
"""Whose outputs are held: token vectors of 200 tokens in float16 take 80 MB."""

Scores = NDArray[np.float32]


def scores_of_lanes(
    encoder: Encoder, head: Head, queries: Sequence[str], passages: Sequence[str]
) -> Mapping[Output, Scores]:
    """(Q, P) of each lane that ``head`` trains. Passages are encoded a block at a time: what remains of them are their
    scores. Raises ArtifactError where the encoder does not have them all."""
    outputs = LANES[head]
    encode_queries, encode_passages = encoder.encode_queries, encoder.encode_passages
    if isinstance(encoder, UnifiedEncoder):  # others have one output
        encode_queries = partial(encoder.encode_queries, outputs=outputs)
        encode_passages = partial(encoder.encode_passages, outputs=outputs)
    asked = encode_queries(queries)
    blocks = [
        _scores(asked, encode_passages(passages[start : start + PASSAGES_AT_ONCE]))
        for start in range(0, len(passages), PASSAGES_AT_ONCE)
    ]
    if blocks and not blocks[0].keys() >= set(outputs):
        raise ArtifactError(f"ranking by head {head} needs {', '.join(outputs)}, which the model does not give")
    return {lane: np.concatenate([block[lane] for block in blocks], axis=1) for lane in outputs}


def best_of_lanes(
    encoder: Encoder, head: Head, queries: Sequence[str], passages: Sequence[str], priority: NDArray[np.int64]
) -> tuple[Scores, NDArray[np.int64]]:
    """(Q, 10) scores and (Q, 10) rows of ``passages``, best first; equal scores by ``priority``. Of ``unified`` by the
    model's own lane weights."""
    lanes = scores_of_lanes(encoder, head, queries, passages)
    if isinstance(encoder, UnifiedEncoder) and head == "unified":
        scores = weighted_sum(lanes["dense"], lanes["sparse"], lanes["multi_vector"], encoder.lane_weights)
    else:
        (scores,) = lanes.values()
    rows = np.lexsort((np.broadcast_to(priority, scores.shape), -scores), axis=1)[:, :10]
    return np.take_along_axis(scores, rows, axis=1), rows


def _scores(queries: Encoded, passages: Encoded) -> dict[Output, Scores]:
    found: dict[Output, Scores] = {}
    if queries.dense is not None and passages.dense is not None:
        found["dense"] = queries.dense @ passages.dense.T
    if queries.sparse is not None and passages.sparse is not None:
        found["sparse"] = (queries.sparse @ passages.sparse.T).toarray()
    if queries.multi_vector is not None and passages.multi_vector is not None:
        found["multi_vector"] = MaxSim(passages.multi_vector).scores(queries.multi_vector)
    return found
