"""A lexical index: texts to terms, terms to weights, weights to postings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.search.analyzer import analyze
from bessemer.search.postings import Postings
from bessemer.types import Hits

_EMPTY = np.zeros(0, dtype=np.int64)


class LexicalIndex(ABC):
    """Passages under one weighting; a retriever by itself.

    ``postings`` is (V, N), float32: row = term, column = passage; ``query_weights`` is (V,). A query scores
    ``sum_t count(t) * query_weights[t] * postings[t, p]``; passages that share no token with it are no hits.
    """

    name: ClassVar[str]
    unit_queries: ClassVar[bool] = False

    def __init__(
        self,
        passage_ids: Sequence[str],
        vocabulary: Mapping[str, int],
        postings: sp.csr_array,
        query_weights: NDArray[np.float32],
    ) -> None:
        self.passage_ids = list(passage_ids)
        self.vocabulary = vocabulary
        self.postings = postings
        self.query_weights = query_weights
        self._inverted = Postings(self.passage_ids, postings)

    @staticmethod
    @abstractmethod
    def weigh(counts: sp.csr_array, lengths: NDArray[np.float64]) -> tuple[sp.csr_array, NDArray[np.float64]]:
        """From counts (V, N) and passage lengths (N,): the passage weights (V, N) and the query weights (V,)."""

    @classmethod
    def build(cls, passage_ids: Sequence[str], texts: Sequence[str]) -> Self:
        """Analyse ``texts`` and weigh their terms."""
        return cls.from_tokens(passage_ids, map(analyze, texts))

    @classmethod
    def from_tokens(cls, passage_ids: Sequence[str], token_lists: Iterable[Sequence[str]]) -> Self:
        """As ``build``, for passages analysed elsewhere."""
        vocabulary: dict[str, int] = {}
        term_ids, lengths = [_EMPTY], []
        for tokens in token_lists:
            lengths.append(len(tokens))
            ids = (vocabulary.setdefault(token, len(vocabulary)) for token in tokens)
            term_ids.append(np.fromiter(ids, dtype=np.int64, count=len(tokens)))
        if len(lengths) != len(passage_ids):
            raise ValueError(f"{len(passage_ids)} passage ids for {len(lengths)} texts")
        rows = np.concatenate(term_ids)
        columns = np.repeat(np.arange(len(lengths)), lengths)
        shape = (len(vocabulary), len(lengths))
        counts = sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()  # adds up repeats
        postings, query_weights = cls.weigh(counts, np.asarray(lengths, dtype=np.float64))
        return cls(passage_ids, vocabulary, postings.astype(np.float32), query_weights.astype(np.float32))

    def search(self, texts: Sequence[str], top_k: int) -> list[Hits]:
        """One ranked list per text, best first, at most ``top_k`` long; empty where no token is known."""
        return self.search_tokens([analyze(text) for text in texts], top_k)

    def search_tokens(self, token_lists: Sequence[Sequence[str]], top_k: int) -> list[Hits]:
        """As ``search``, for queries analysed elsewhere."""
        return self._inverted.search(self._query_matrix(token_lists), top_k)

    def _query_matrix(self, token_lists: Sequence[Sequence[str]]) -> sp.csr_array:
        """(Q, V) query weights, times the number of occurrences."""
        counts = [Counter(self.vocabulary[t] for t in tokens if t in self.vocabulary) for tokens in token_lists]
        columns = np.fromiter(chain.from_iterable(counts), dtype=np.int64)
        values = np.fromiter(chain.from_iterable(c.values() for c in counts), dtype=np.float32)
        indptr = np.cumsum([0, *(len(c) for c in counts)])
        shape = (len(token_lists), len(self.vocabulary))
        matrix = sp.csr_array((values * self.query_weights[columns], columns, indptr), shape=shape)
        if self.unit_queries:
            norms = np.sqrt(matrix.multiply(matrix).sum(axis=1))
            matrix.data /= np.repeat(np.where(norms > 0, norms, 1), np.diff(indptr)).astype(np.float32)
        return matrix
