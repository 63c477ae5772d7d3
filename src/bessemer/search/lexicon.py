"""The words of an index: ids of terms, and how often each occurs, kept exact while passages come and go.

The BM25 weight of a term in a passage stands with the passage in the engine, under the term's id; ``idf`` stands on the
query side (`bessemer.search.bm25` has both formulas). So a new passage changes the weights of no other one, but for the
mean length: they keep the mean that they were written with until the true one has moved by more than `DRIFT`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.errors import ArtifactError
from bessemer.search.analyzer import analyze, analyzer_version
from bessemer.search.bm25 import idf, term_weights
from bessemer.search.stores.check import TERMS

DRIFT = 0.05


@dataclass(frozen=True, slots=True)
class TermCounts:
    """``rows`` (n, TERMS), float32: how often each term occurs; ``lengths`` (n,) in tokens."""

    rows: sp.csr_array
    lengths: NDArray[np.float64]

    def of(self, rows: NDArray[np.int64]) -> TermCounts:
        return TermCounts(self.rows[rows].tocsr(), self.lengths[rows])


class Lexicon:
    """Ids are given in order of appearance and never again to another term. ``is_exact``: no build is on its way;
    ``written_mean``: the mean length behind the weights in the engine, 0 where they differ among themselves;
    ``analyzer``: the `analyzer_version` that cut the words."""

    def __init__(self) -> None:
        self.n_passages = 0
        self.total_length = 0
        self.written_mean = 0.0
        self.is_exact = True
        self.analyzer = analyzer_version()
        self._ids: dict[str, int] = {}
        self._frequency = np.zeros(1024, dtype=np.int64)  # passages with each term; grows ahead of the ids

    @property
    def mean_length(self) -> float:
        """In tokens; 1 where no passage has any."""
        return self.total_length / self.n_passages if self.total_length else 1.0

    @property
    def has_drifted(self) -> bool:
        return not self.written_mean or abs(self.mean_length / self.written_mean - 1) > DRIFT

    @property
    def is_current(self) -> bool:
        """Whether words are cut as when the passages were counted."""
        return self.analyzer == analyzer_version()

    def count(self, texts: Iterable[str]) -> TermCounts:
        """The terms of ``texts``, new ones with new ids; nothing is added."""
        ids, counts, lengths = [], [], []
        for text in texts:
            tokens = analyze(text)
            occurs = Counter(tokens)
            ids.append(np.fromiter((self._id(token) for token in occurs), dtype=np.int64, count=len(occurs)))
            counts.append(np.fromiter(occurs.values(), dtype=np.float32, count=len(occurs)))
            lengths.append(len(tokens))
        indptr = np.cumsum([0, *map(len, ids)])
        columns = np.concatenate([np.zeros(0, dtype=np.int64), *ids])
        data = np.concatenate([np.zeros(0, dtype=np.float32), *counts])
        rows = sp.csr_array((data, columns, indptr), shape=(len(lengths), TERMS))
        rows.sort_indices()
        return TermCounts(rows, np.array(lengths, dtype=np.float64))

    def add(self, counts: TermCounts) -> None:
        self._change(counts, 1)

    def remove(self, counts: TermCounts) -> None:
        """Of passages that were added."""
        self._change(counts, -1)

    def weights(self, counts: TermCounts) -> sp.csr_array:
        """(n, TERMS), float32: of passages, by the mean length in ``written_mean``."""
        lengths = np.repeat(counts.lengths, np.diff(counts.rows.indptr))
        weights = term_weights(counts.rows.data.astype(np.float64), lengths, self.written_mean)
        entries = (weights.astype(np.float32), counts.rows.indices, counts.rows.indptr)
        return sp.csr_array(entries, shape=counts.rows.shape)

    def queries(self, texts: Sequence[str]) -> sp.csr_array:
        """(Q, TERMS), float32: idf times the number of occurrences; unknown words are left out."""
        found = [Counter(self._ids[token] for token in analyze(text) if token in self._ids) for text in texts]
        ids = np.fromiter(chain.from_iterable(found), dtype=np.int64)
        values = np.fromiter(chain.from_iterable(each.values() for each in found), dtype=np.float32)
        indptr = np.cumsum([0, *map(len, found)])
        return sp.csr_array((values * self._idf(ids), ids, indptr), shape=(len(found), TERMS))

    def telling_words(self, text: str, n: int) -> list[str]:
        """The ``n`` terms that weigh most in a passage with this text, the heaviest first."""
        tokens = analyze(text)
        counts = {token: count for token, count in Counter(tokens).items() if token in self._ids}
        terms = sorted(counts, key=self._ids.__getitem__)
        occurs = np.array([counts[term] for term in terms], dtype=np.float64)
        weights = term_weights(occurs, np.full(len(terms), float(len(tokens))), self.mean_length)
        weights *= self._idf(np.array([self._ids[term] for term in terms], dtype=np.int64))
        return [terms[place] for place in np.argsort(-weights, kind="stable")[:n]]

    def start_again(self) -> None:
        """No passages; the terms keep their ids. Where words are cut otherwise now, no weight in the engine holds."""
        if not self.is_current:
            self.analyzer, self.written_mean = analyzer_version(), 0.0
        self.n_passages = self.total_length = 0
        self._frequency[:] = 0

    def to_bytes(self) -> bytes:
        content: dict[str, Any] = {
            "n_passages": self.n_passages,
            "total_length": self.total_length,
            "written_mean": self.written_mean,
            "is_exact": self.is_exact,
            "analyzer": self.analyzer,
            "terms": list(self._ids),
            "frequency": self._frequency[: len(self._ids)].tolist(),
        }
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")

    @classmethod
    def from_bytes(cls, content: bytes, location: str) -> Lexicon:
        """Raises ArtifactError, which names ``location``, where ``content`` is no lexicon."""
        try:
            values = json.loads(content.decode("utf-8", "surrogatepass"))
            lexicon = cls()
            lexicon._ids = {term: number for number, term in enumerate(values["terms"])}
            lexicon._frequency = np.array(values["frequency"], dtype=np.int64)
            lexicon.n_passages, lexicon.total_length = int(values["n_passages"]), int(values["total_length"])
            lexicon.written_mean, lexicon.is_exact = float(values["written_mean"]), bool(values["is_exact"])
            lexicon.analyzer = str(values.get("analyzer", ""))
            if len(lexicon._ids) != len(lexicon._frequency):
                raise ValueError(f"{len(lexicon._frequency)} frequencies of {len(lexicon._ids)} terms")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{location}: the index is damaged (lexicon: {error}); build it again") from None
        return lexicon

    def _id(self, token: str) -> int:
        return self._ids.setdefault(token, len(self._ids))

    def _idf(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return idf(self.n_passages, self._frequency[ids]).astype(np.float32)

    def _change(self, counts: TermCounts, sign: int) -> None:
        missing = len(self._ids) - len(self._frequency)
        if missing > 0:
            ahead = np.zeros(missing + len(self._ids), dtype=np.int64)
            self._frequency = np.concatenate([self._frequency, ahead])
        np.add.at(self._frequency, counts.rows.indices, sign)
        self.n_passages += sign * len(counts.lengths)
        self.total_length += sign * int(counts.lengths.sum())
