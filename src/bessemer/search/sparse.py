"""Exact search by learned sparse vectors: the same inverted index as for words, over a model's token weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded, Encoder
from bessemer.search.postings import Postings
from bessemer.types import Hits


class SparseRetriever:
    """``rows`` (N, V), float32, one row per passage id, all from ``encoder``. A text without weights finds nothing
    and is not found."""

    def __init__(self, encoder: Encoder, passage_ids: Sequence[str], rows: sp.csr_array) -> None:
        if len(passage_ids) != rows.shape[0]:
            raise ValueError(f"{len(passage_ids)} passage ids for {rows.shape[0]} rows")
        self.encoder = encoder
        self._postings = Postings(passage_ids, rows.T.tocsr())

    def search(self, texts: Sequence[str], top_k: int) -> list[Hits]:
        return self.search_encoded(self.encoder.encode_queries(texts), top_k) if texts else []

    def search_encoded(self, queries: Encoded, top_k: int) -> list[Hits]:
        """As ``search``, for queries encoded elsewhere."""
        return self._postings.search(sparse_rows(queries), top_k)

    def scores(self, queries: Encoded) -> NDArray[np.float32]:
        """(Q, N) of every query with every passage."""
        return self._postings.scores(sparse_rows(queries))


def sparse_rows(encoded: Encoded) -> sp.csr_array:
    """Raises ValueError where the encoder gave none."""
    if encoded.sparse is None:
        raise ValueError("the encoder gives no sparse vectors")
    return encoded.sparse


def active_dimensions(rows: sp.csr_array) -> float:
    """Mean number of entries per row; 0 without rows."""
    return rows.nnz / rows.shape[0] if rows.shape[0] else 0.0
