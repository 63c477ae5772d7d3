"""Retrievers: texts in, ranked passage ids out. A lexical index is one as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded, Encoder
from bessemer.search.exact import ExactSearch
from bessemer.search.ranking import tie_priority
from bessemer.types import Hits

LANE_DEPTH = 100  # how deep each lane of a hybrid is read before fusing


class Retriever(Protocol):
    def search(self, texts: Sequence[str], top_k: int) -> list[Hits]:
        """One list per text: (passage_id, score), best first, ties by id descending, at most ``top_k`` long."""
        ...


class DenseRetriever:
    """Exact search over ``vectors`` (N, d), float32, one row per passage id, all from ``encoder``.

    ``similarity`` defaults to the encoder's own. The two differ for models that do not normalise their vectors; for
    cosine both sides are brought to unit length here (a zero vector stays zero).
    """

    def __init__(
        self,
        encoder: Encoder,
        passage_ids: Sequence[str],
        vectors: NDArray[np.float32],
        similarity: Literal["cosine", "dot"] | None = None,
    ) -> None:
        if len(passage_ids) != len(vectors):
            raise ValueError(f"{len(passage_ids)} passage ids for {len(vectors)} vectors")
        self.encoder = encoder
        self.passage_ids = list(passage_ids)
        self.similarity = similarity or encoder.similarity
        self.vectors = unit_length(vectors) if self.similarity == "cosine" else vectors
        self.exact = ExactSearch(self.vectors, priority=tie_priority(self.passage_ids))

    def search(self, texts: Sequence[str], top_k: int) -> list[Hits]:
        return self.search_encoded(self.encoder.encode_queries(texts), top_k) if texts else []

    def search_encoded(self, encoded: Encoded, top_k: int) -> list[Hits]:
        """As ``search``, for texts encoded elsewhere."""
        queries = self.queries_of(encoded)
        if not self.passage_ids:
            return [[] for _ in queries]
        scores, indices = self.exact.top_k(queries, top_k)
        rows = zip(scores.tolist(), indices.tolist(), strict=True)
        return [[(self.passage_ids[i], s) for s, i in zip(*row, strict=True)] for row in rows]

    def queries_of(self, encoded: Encoded) -> NDArray[np.float32]:
        """(Q, d) as they meet ``vectors``. Raises ValueError where the encoder gave none."""
        if encoded.dense is None:
            raise ValueError("the encoder gives no dense vectors")
        return unit_length(encoded.dense) if self.similarity == "cosine" else encoded.dense


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows at L2 norm 1, zero rows left; the same array when they already are."""
    norms = np.linalg.norm(vectors, axis=1)
    if np.all((np.abs(norms - 1) < 1e-5) | (norms == 0)):
        return vectors
    return (vectors / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)
