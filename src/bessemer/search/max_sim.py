"""Exact search by multi-vectors: MaxSim (ColBERT, Khattab and Zaharia 2020, 2004.12832) over every passage.

    score = mean over the query's tokens of the largest dot product with a token of the passage

As in `bessemer.search.exact`, two steps make the result the same for every block size, on every machine: fast
products, in bf16 where the CPU multiplies it, tell which passages may be among the k best; their scores are computed
again in float64 and rounded once. With q' and p' the rounded vectors |q.p - q'.p'| <= |q - q'| |p| + |q'| |p - p'|, and
a maximum or a mean of numbers is off by no more than the numbers are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded, Encoder
from bessemer.encoders.runtime import has_native_bf16
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.search.approximate import BF16_FROM, ROUNDING
from bessemer.search.ranking import sort_hits, tie_priority
from bessemer.types import Hits

QUERY_TOKENS, PASSAGE_TOKENS = 1024, 8192
"""Of one block of products; a longer text goes alone."""

Scores = NDArray[np.float32]
Indices = NDArray[np.int64]


class MaxSim:
    """Scores with the multi-vectors of N passages, in whatever precision they are kept.

    Equal scores: lower ``priority`` first (default: lower row). Memory above the inputs and the result: about
    ``10 * QUERY_TOKENS * PASSAGE_TOKENS`` bytes and one block of passages in float32, and for ``top_k`` 4 bytes for
    every passage and each of the at most ``QUERY_TOKENS`` queries of a block. A query or passage without tokens
    scores 0.
    """

    def __init__(self, passages: TokenVectors, *, priority: Indices | None = None) -> None:
        self.passages = passages
        self._priority = np.arange(len(passages)) if priority is None else priority

    def scores(self, queries: TokenVectors) -> Scores:
        """(Q, N) in float32 products: within 1e-5 of the exact ones."""
        found = np.zeros((len(queries), len(self.passages)), dtype=np.float32)
        for some in _blocks(queries.offsets, QUERY_TOKENS):
            found[some] = self._block_scores(queries, some, torch.float32)[0]
        return found

    def top_k(self, queries: TokenVectors, k: int) -> list[tuple[Indices, Scores]]:
        """For every query the rows of its ``k`` best passages, best first, and their scores; none for a query without
        tokens. Raises ValueError for ``k`` below 1."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        k = min(k, len(self.passages))
        candidates: list[Indices] = []
        for some in _blocks(queries.offsets, QUERY_TOKENS):
            scores, error = self._block_scores(queries, some, _product_type(queries))
            floor = np.partition(scores, -k, axis=1)[:, -k] - 2 * error if k else error
            candidates += [np.flatnonzero(row >= low) for row, low in zip(scores, floor, strict=True)]
        has_tokens = np.diff(queries.offsets) > 0
        candidates = [rows if kept else rows[:0] for rows, kept in zip(candidates, has_tokens, strict=True)]
        exact = self.of_candidates(queries, candidates)
        return [self._best(rows, scores, k) for rows, scores in zip(candidates, exact, strict=True)]

    def of_candidates(self, queries: TokenVectors, candidates: Sequence[Indices]) -> list[Scores]:
        """For every query its scores with the passages of its rows of ``candidates``, in float64, rounded once."""
        return [
            np.concatenate([np.zeros(0, dtype=np.float32), *self._exact_scores(queries.floats(i, i + 1), rows)])
            for i, rows in enumerate(candidates)
        ]

    def _best(self, rows: Indices, scores: Scores, k: int) -> tuple[Indices, Scores]:
        order = np.lexsort((self._priority[rows], -scores))[:k]
        return rows[order], scores[order]

    def _exact_scores(self, query: Scores, rows: Indices) -> Iterator[Scores]:
        passages = self.passages.of(rows)
        of_query = np.array([0, len(query)])
        for some in _blocks(passages.offsets, PASSAGE_TOKENS):
            tokens = passages.floats(some.start, some.stop).astype(np.float64)
            products = query.astype(np.float64) @ tokens.T
            best = _largest_of_each(products, _offsets(passages, some))
            yield _mean_of_each(best, of_query)[0].astype(np.float32)

    def _block_scores(self, queries: TokenVectors, some: slice, dtype: torch.dtype) -> tuple[Scores, Scores]:
        """(n, N) scores of some queries by products of ``dtype``, and (n,) how far they may be off."""
        exact = _tensor(queries, some)
        tokens = exact.to(dtype)
        of_query = _offsets(queries, some)
        scores = np.empty((len(of_query) - 1, len(self.passages)), dtype=np.float32)
        longest = residual = 0.0
        for part in _blocks(self.passages.offsets, PASSAGE_TOKENS):
            passages = _tensor(self.passages, part)
            rounded = passages.to(dtype)
            if len(passages):
                longest = max(longest, float(passages.norm(dim=1).max()))
                residual = max(residual, float((passages - rounded).norm(dim=1).max()))
            products = torch.mm(tokens, rounded.T).float().numpy()
            scores[:, part] = _mean_of_each(_largest_of_each(products, _offsets(self.passages, part)), of_query)
        lost, norms = (exact - tokens).norm(dim=1).numpy(), exact.norm(dim=1).numpy()
        of_product = ROUNDING[dtype] if dtype != torch.float32 else 0  # rounded even where no vector was
        of_sums = (exact.shape[1] + len(exact)) * ROUNDING[torch.float32] + of_product
        errors = lost * longest + (norms + lost) * (residual + of_sums * (longest + residual))
        return scores, _mean_of_each(errors[:, None], of_query)[:, 0]


class MultiVectorRetriever:
    """``vectors``, one text per passage id, all from ``encoder``. A query without tokens finds nothing."""

    def __init__(self, encoder: Encoder, passage_ids: Sequence[str], vectors: TokenVectors) -> None:
        if len(passage_ids) != len(vectors):
            raise ValueError(f"{len(passage_ids)} passage ids for the multi-vectors of {len(vectors)} passages")
        self.encoder = encoder
        self.passage_ids = list(passage_ids)
        self.max_sim = MaxSim(vectors, priority=tie_priority(self.passage_ids))

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        return {passage_id: row for row, passage_id in enumerate(self.passage_ids)}

    def search(self, texts: Sequence[str], top_k: int) -> list[Hits]:
        return self.search_encoded(self.encoder.encode_queries(texts), top_k) if texts else []

    def search_encoded(self, queries: Encoded, top_k: int) -> list[Hits]:
        """As ``search``, for queries encoded elsewhere."""
        return [self._hits(*found) for found in self.max_sim.top_k(token_vectors(queries), top_k)]

    def rerank(self, queries: Encoded, lists: Sequence[Hits]) -> list[Hits]:
        """The hits of every list, ordered anew by MaxSim, with its scores; of a query without tokens as they are.
        Raises KeyError for a passage that is not here."""
        asked = token_vectors(queries)
        rows = [np.array([self.row_of[passage_id] for passage_id, _ in hits], dtype=np.int64) for hits in lists]
        scores = self.max_sim.of_candidates(asked, rows)
        n_tokens = np.diff(asked.offsets).tolist()
        ordered = (sort_hits(self._hits(*pair)) for pair in zip(rows, scores, strict=True))
        return [new if n else old for old, new, n in zip(lists, ordered, n_tokens, strict=True)]

    def _hits(self, rows: Indices, scores: Scores) -> Hits:
        return [(self.passage_ids[row], score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]


def token_vectors(encoded: Encoded) -> TokenVectors:
    """Raises ValueError where the encoder gave none."""
    if encoded.multi_vector is None:
        raise ValueError("the encoder gives no multi-vectors")
    return encoded.multi_vector


def _product_type(queries: TokenVectors) -> torch.dtype:
    is_faster = queries.offsets[-1] >= BF16_FROM and has_native_bf16("cpu")
    return torch.bfloat16 if is_faster else torch.float32


def _tensor(texts: TokenVectors, some: slice) -> torch.Tensor:
    vectors = texts.floats(some.start, some.stop)
    return torch.from_numpy(vectors if vectors.flags.writeable else vectors.copy())


def _offsets(texts: TokenVectors, some: slice) -> Indices:
    """(n + 1,) of some texts, from 0."""
    offsets: Indices = texts.offsets[some.start : some.stop + 1] - texts.offsets[some.start]
    return offsets


def _blocks(offsets: Indices, most: int) -> Iterator[slice]:
    """Texts after one another with at most ``most`` tokens together; a longer one goes alone."""
    start = 0
    while start < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[start] + most, side="right")) - 1
        yield slice(start, max(end, start + 1))
        start = max(end, start + 1)


def _largest_of_each(products: NDArray[np.floating], offsets: Indices) -> NDArray[np.floating]:
    """(T, n) the largest of the columns of each of n texts; 0 for a text without any."""
    largest = np.zeros((len(products), len(offsets) - 1), dtype=products.dtype)
    held = np.diff(offsets) > 0
    if held.any():
        largest[:, held] = np.maximum.reduceat(products, offsets[:-1][held], axis=1)
    return largest


def _mean_of_each(values: NDArray[np.floating], offsets: Indices) -> NDArray[np.floating]:
    """(n, N) the mean of the rows of each of n texts; 0 for a text without any."""
    means = np.zeros((len(offsets) - 1, values.shape[1]), dtype=values.dtype)
    lengths = np.diff(offsets)
    held = lengths > 0
    if held.any():
        means[held] = np.add.reduceat(values, offsets[:-1][held], axis=0) / lengths[held, None].astype(values.dtype)
    return means
