"""What a unified model gave for some texts, cut into parts and joined again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded, Encoder
from bessemer.encoders.sparse_width import stacked
from bessemer.encoders.token_vectors import joined

if TYPE_CHECKING:
    from bessemer.encoders.unified import UnifiedEncoder


def unified_in(encoder: Encoder) -> UnifiedEncoder | None:
    """The unified encoder that ``encoder`` is or, as a cache does, holds; None for others. Loads no torch."""
    inner: Any = getattr(encoder, "encoder", encoder)
    return inner if hasattr(inner, "lane_weights") else None


def texts_of(encoded: Encoded, texts: slice | NDArray[np.int64]) -> Encoded:
    """Those of some texts, in the order given."""
    dense, sparse, multi_vector = encoded.dense, encoded.sparse, encoded.multi_vector
    if multi_vector is not None:
        multi_vector = multi_vector.of(np.arange(len(multi_vector))[texts])
    return Encoded(
        None if dense is None else dense[texts], None if sparse is None else sparse[texts].tocsr(), multi_vector
    )


def join_texts(parts: Sequence[Encoded]) -> Encoded:
    """Texts of several after one another; at least one part, all of the same kinds and of one precision."""
    dense = [part.dense for part in parts if part.dense is not None]
    sparse = [part.sparse for part in parts if part.sparse is not None]
    multi_vector = [part.multi_vector for part in parts if part.multi_vector is not None]
    return Encoded(
        np.concatenate(dense) if dense else None,
        stacked(sparse) if sparse else None,
        joined(multi_vector) if multi_vector else None,
    )
