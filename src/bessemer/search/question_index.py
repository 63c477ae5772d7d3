"""The question index: questions that were asked before point at the passages that answer them.

A question that somebody asks is compared with those, query with query, so both sides have the query prompt. They are
kept as a generation of their own beside the passages', one record for each question of each passage, with the
passage's document and metadata, so that the engine's own filters hold for the passage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded, Encoder, Side, Similarity
from bessemer.search.ranking import sort_hits
from bessemer.search.stores.store import Filter, VectorStore
from bessemer.text import folded
from bessemer.types import Hits, Passage, Query

LANE = "questions"

Pointer = tuple[Query, str]
"""A question, and the id of a passage that answers it."""


def question_records(questions: Sequence[Pointer], passages: Sequence[Passage]) -> list[Passage]:
    """One record for each question of each of ``passages``. Its id holds the passage's id and a hash of the folded
    question, so that what several sources ask of one passage stands there once."""
    held = {passage.passage_id: passage for passage in passages}
    records: dict[str, Passage] = {}
    for query, passage_id in questions:
        if passage_id in held:
            text, passage = query.searched_text, held[passage_id]
            digest = hashlib.sha256(folded(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]
            record_id = json.dumps([passage_id, digest], ensure_ascii=False)
            records.setdefault(record_id, Passage(record_id, passage.doc_id, text, metadata=passage.metadata))
    return list(records.values())


def question_generation(generation: str, encoder: Encoder) -> str:
    """The name of the questions beside the passages of ``generation``; the query side may be a model of its own."""
    side = hashlib.sha256(encoder.fingerprint_of("query").encode()).hexdigest()[:8]
    return f"{generation}-questions-{side}"


class QuestionEncoder:
    """``encoder`` with questions in the place of passages: dense vectors alone."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def similarity(self) -> Similarity:
        return self._encoder.similarity

    def fingerprint_of(self, side: Side) -> str:
        return self._encoder.fingerprint_of("query")

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return Encoded(dense=self._encoder.encode_queries(texts).dense)

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        return self.encode_queries(texts)


class QuestionLane:
    """The open questions of an index."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    def search(self, query: NDArray[np.float32], depth: int, where: Filter) -> tuple[Hits, Mapping[str, str]]:
        """Passages by the best of their questions among the ``depth`` nearest to ``query`` (1, dimension), and which
        that was: passage_id -> record."""
        [nearest] = self._store.search_dense(query, depth, where)
        best: dict[str, tuple[str, float]] = {}
        for record_id, score in nearest:
            best.setdefault(json.loads(record_id)[0], (record_id, score))
        hits = sort_hits((passage_id, score) for passage_id, (_, score) in best.items())
        return hits, {passage_id: record_id for passage_id, (record_id, _) in best.items()}

    def texts(self, record_ids: Sequence[str]) -> list[str]:
        """The questions, in the order given."""
        return [record.text for record in self._store.passages(record_ids)]
