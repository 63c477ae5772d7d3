"""What a strategy chooses from: vectors by position, and per query the passages that must never be its negatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bessemer.search.bm25 import BM25
from bessemer.shingles import shingles
from bessemer.text import folded
from bessemer.types import Hits, Judged, Passage, Query

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]
Ranking = tuple[Positions, Vectors]
"""Passages, the best first, and their scores."""
WORDS_COMPARED = 3


@dataclass(frozen=True)
class Corpus:
    """Passages, and what mining makes of texts alone. It serves every mining of the same passages: what the weights of
    the model do not change is done once."""

    passages: Sequence[Passage]

    @cached_property
    def position(self) -> Mapping[str, int]:
        return {passage.passage_id: i for i, passage in enumerate(self.passages)}

    @cached_property
    def of_document(self) -> Mapping[str, Positions]:
        found: dict[str, list[int]] = defaultdict(list)
        for i, passage in enumerate(self.passages):
            found[passage.doc_id].append(i)
        return {doc_id: np.array(members, dtype=np.int64) for doc_id, members in found.items()}

    def trigrams(self, passage: int) -> NDArray[np.uint64]:
        """Hashed word trigrams of one passage, made once: to a weak model, most candidates look like a positive."""
        if passage not in self._trigrams:
            self._trigrams[passage] = shingles(self.passages[passage].indexed_text, WORDS_COMPARED)
        return self._trigrams[passage]

    @cached_property
    def _trigrams(self) -> dict[int, NDArray[np.uint64]]:
        return {}

    def lexical(self, texts: Sequence[str], depth: int) -> list[Ranking]:
        """The ``depth`` best passages by BM25 for each text."""
        return [self.ranking(hits) for hits in self._bm25.search(texts, depth)]

    @cached_property
    def _bm25(self) -> BM25:
        return BM25.build(list(self.position), [passage.indexed_text for passage in self.passages])

    def ranking(self, hits: Hits) -> Ranking:
        found = np.array([self.position[passage_id] for passage_id, _ in hits], dtype=np.int64)
        return found, np.array([score for _, score in hits], dtype=np.float32)


@dataclass(frozen=True)
class Pool:
    """Queries (Q, d) and passages (P, d) of the mining model, with the relevant passages of each query by position.

    ``excluded[i]`` holds ``positives[i]`` and whatever shares a text with one of them, or is relevant to another
    query of the same text: positives of a query are out of bounds across all rows. It is sorted.
    """

    queries: tuple[Query, ...]
    corpus: Corpus
    query_vectors: Vectors
    passage_vectors: Vectors
    positives: tuple[Positions, ...]
    excluded: tuple[Positions, ...]

    @property
    def passages(self) -> Sequence[Passage]:
        return self.corpus.passages

    def scores(self, query: int, passages: Positions) -> Vectors:
        """Similarities of one query to some passages, as the mining model gives them."""
        return np.asarray(self.passage_vectors[passages] @ self.query_vectors[query], dtype=np.float32)

    def is_allowed(self, query: int, passages: Positions) -> NDArray[np.bool_]:
        """(n,) which of ``passages`` may be negatives of the query."""
        excluded = self.excluded[query]  # never empty
        nearest = excluded[np.searchsorted(excluded[:-1], passages)]
        return np.asarray(nearest != passages, dtype=np.bool_)

    @cached_property
    def lengths(self) -> Vectors:
        """(P,) L2 norms of the passages."""
        squares: Vectors = np.einsum("nd,nd->n", self.passage_vectors, self.passage_vectors)
        return np.sqrt(squares)

    @cached_property
    def positive_scores(self) -> list[Vectors]:
        """Per query the similarities of its positives: every strategy is held against them."""
        return [self.scores(i, positives) for i, positives in enumerate(self.positives)]


@dataclass(frozen=True)
class Proposal:
    """Candidates of one query in the order in which the strategy wants them.

    ``probabilities``, where there are any, say how a draw without replacement chooses among them.
    """

    passages: Positions
    scores: Vectors
    probabilities: NDArray[np.float64] | None = None


def build_pool(
    judged: Judged, corpus: Corpus, query_vectors: Vectors, passage_vectors: Vectors
) -> tuple[Pool, list[str]]:
    """The pool, and the ids of queries left out because none of their relevant passages is in the corpus."""
    passages, position = corpus.passages, corpus.position
    same_text: dict[str, list[int]] = defaultdict(list)
    for i, passage in enumerate(passages):
        same_text[passage.indexed_text].append(i)
    relevant = {
        query.query_id: [
            position[passage_id]
            for passage_id, relevance in judged.qrels.get(query.query_id, {}).items()
            if relevance > 0 and passage_id in position
        ]
        for query in judged.queries
    }
    by_query_text: dict[str, set[int]] = defaultdict(set)
    for query in judged.queries:
        for i in relevant[query.query_id]:
            by_query_text[folded(query.searched_text)].update(same_text[passages[i].indexed_text])

    rows = [i for i, query in enumerate(judged.queries) if relevant[query.query_id]]
    queries = tuple(judged.queries[i] for i in rows)
    pool = Pool(
        queries=queries,
        corpus=corpus,
        query_vectors=query_vectors[rows],
        passage_vectors=passage_vectors,
        positives=tuple(np.array(relevant[query.query_id], dtype=np.int64) for query in queries),
        excluded=tuple(
            np.array(sorted(by_query_text[folded(query.searched_text)]), dtype=np.int64) for query in queries
        ),
    )
    return pool, [query.query_id for query in judged.queries if not relevant[query.query_id]]
