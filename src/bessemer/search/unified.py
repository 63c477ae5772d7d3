"""Search by all three representations of a unified model: every lane by itself, and their ensemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import OUTPUTS, Encoded
from bessemer.encoders.unified_settings import LaneWeights
from bessemer.search.encoded_texts import texts_of
from bessemer.search.ensemble import LaneScores, weighted_sum
from bessemer.search.max_sim import MultiVectorRetriever, token_vectors
from bessemer.search.retriever import LANE_DEPTH, DenseRetriever
from bessemer.search.sparse import SparseRetriever
from bessemer.types import Hits

if TYPE_CHECKING:
    from bessemer.encoders.unified import UnifiedEncoder


SMALL = 20_000
"""Up to so many passages, all of them are scored in every lane; beyond, the best of the dense and the sparse lane."""
_BLOCK_BYTES = 64 << 20  # of one block's scores: 12 bytes per query and passage
_MARGIN = 1e-4  # more than float32 products are off, with weights around 1

Rows = NDArray[np.int64]


class UnifiedRetriever:
    """``passages`` holds dense, sparse and multi-vectors, one text per passage id, all from ``encoder``.

    ``search`` is the ensemble's; ``lanes`` has the others, each to be called with encoded queries and a depth.
    """

    def __init__(
        self,
        encoder: UnifiedEncoder,
        passage_ids: Sequence[str],
        passages: Encoded,
        weights: LaneWeights | None = None,
    ) -> None:
        """``weights``: in place of the model's own. Raises ValueError where one of the three is missing."""
        if passages.dense is None or passages.sparse is None or passages.multi_vector is None:
            raise ValueError("a unified model's dense, sparse and multi-vectors are needed, all three")
        self.encoder = encoder
        self.weights = weights or encoder.lane_weights
        self.passage_ids = list(passage_ids)
        self.dense = DenseRetriever(encoder, passage_ids, passages.dense)
        self.sparse = SparseRetriever(encoder, passage_ids, passages.sparse)
        self.multi = MultiVectorRetriever(encoder, passage_ids, passages.multi_vector)
        self.lanes: Mapping[str, Callable[[Encoded, int], list[Hits]]] = {
            "dense": self.dense.search_encoded,
            "sparse": self.sparse.search_encoded,
            "multi": self.multi.search_encoded,
        }

    def encode(self, texts: Sequence[str]) -> Encoded:
        """All three of queries, in one pass."""
        return self.encoder.encode_queries(texts, outputs=OUTPUTS)

    def search(self, texts: Sequence[str], top_k: int) -> list[Hits]:
        return self.search_encoded(self.encode(texts), top_k) if texts else []

    def search_encoded(self, queries: Encoded, top_k: int) -> list[Hits]:
        """The ensemble's best, for queries encoded elsewhere: exact over all passages up to SMALL of them, beyond that
        over the best of the dense and the sparse lane, each read to ``LANE_DEPTH`` or ``top_k``."""
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}")
        hits: list[Hits] = []
        for block in self._blocks(queries):
            candidates = self._best_rows(block, top_k) if len(self.passage_ids) <= SMALL else self._found(block, top_k)
            hits += [scores.hits(self.weights, top_k) for scores in self._scores_of(block, candidates)]
        return hits

    def _blocks(self, queries: Encoded) -> Iterator[Encoded]:
        n_queries = len(token_vectors(queries))
        size = max(1, _BLOCK_BYTES // (12 * max(1, len(self.passage_ids))))
        for start in range(0, n_queries, size):
            yield texts_of(queries, slice(start, start + size))

    def _best_rows(self, queries: Encoded, top_k: int) -> list[Rows]:
        """Rows that may be among the ``top_k`` best of all passages, or tie with them."""
        if not self.passage_ids:
            return [np.zeros(0, dtype=np.int64)] * len(token_vectors(queries))
        dense = self.dense.queries_of(queries) @ self.dense.vectors.T
        multi_vector = self.multi.max_sim.scores(token_vectors(queries))
        scores = weighted_sum(dense, self.sparse.scores(queries), multi_vector, self.weights)
        k = min(top_k, scores.shape[1])
        floor = np.partition(scores, -k, axis=1)[:, -k] - _MARGIN * (1 + np.abs(scores).max(axis=1, initial=0))
        return [np.flatnonzero(row >= low) for row, low in zip(scores, floor, strict=True)]

    def _found(self, queries: Encoded, depth: int) -> list[Rows]:
        """Rows of what the dense and the sparse lane find: of many passages, not all are scored by token vectors."""
        depth = max(depth, LANE_DEPTH)
        found = [search(queries, depth) for search in (self.dense.search_encoded, self.sparse.search_encoded)]
        row_of = self.multi.row_of
        return [
            np.array(sorted({row_of[passage_id] for hits in lists for passage_id, _ in hits}), dtype=np.int64)
            for lists in zip(*found, strict=True)
        ]

    def _scores_of(self, queries: Encoded, candidates: Sequence[Rows]) -> Iterator[LaneScores]:
        dense = self.dense.exact.of_candidates(self.dense.queries_of(queries), candidates)
        multi_vector = self.multi.max_sim.of_candidates(token_vectors(queries), candidates)
        for rows, of_dense, of_sparse, of_multi in zip(
            candidates, dense, self.sparse.scores(queries), multi_vector, strict=True
        ):
            yield LaneScores([self.passage_ids[row] for row in rows], of_dense, of_sparse[rows], of_multi)
