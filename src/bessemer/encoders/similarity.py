"""The similarity of two texts that stand on equal sides.

Both are encoded as passages: the sides are equal, and passages are the side that most models give no prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoder

ScoredPair = tuple[str, str, float]


def pair_scores(encoder: Encoder, pairs: Sequence[ScoredPair]) -> NDArray[np.float64]:
    """(n,) the encoder's own similarity of each pair; every distinct sentence is encoded once."""
    rows = {text: row for row, text in enumerate(dict.fromkeys(text for a, b, _ in pairs for text in (a, b)))}
    dense = encoder.encode_passages(list(rows)).dense
    if dense is None:
        raise ValueError("the encoder gives no dense vectors")
    vectors = dense.astype(np.float64)
    if encoder.similarity == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(norms > 0, norms, 1)
    first, second = vectors[[rows[a] for a, _, _ in pairs]], vectors[[rows[b] for _, b, _ in pairs]]
    scores: NDArray[np.float64] = np.einsum("nd,nd->n", first, second)
    return scores
