"""Every noun of the package, as frozen dataclasses. Standard library only.

An id is the identity of a thing, never its text: two passages may share a text and remain two passages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Qrels = Mapping[str, Mapping[str, int]]
"""query_id -> {passage_id: relevance}; > 0 is relevant (graded), 0 is judged and not relevant."""

Hits = list[tuple[str, float]]
"""One ranked list: (passage_id, score), score descending, then id descending, as trec_eval breaks ties."""


@dataclass(frozen=True, slots=True)
class Document:
    """One file or record of the source, as text."""

    doc_id: str
    text: str
    title: str = ""
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of a document: ``document.text[start:end] == text``.

    ``withheld`` holds half-open spans, relative to ``text``, that were extracted as queries: ``indexed_text`` leaves
    them out, so that no question stands in its own passage. A heading that became a query is simply absent from
    ``headings`` (and ``title``) of the passage that is indexed for training and evaluation. ``metadata`` is JSON; what
    of it is a text, a number or a truth value can be searched by.
    """

    passage_id: str
    doc_id: str
    text: str
    title: str = ""
    start: int = 0
    end: int = 0
    headings: tuple[str, ...] = ()
    withheld: tuple[tuple[int, int], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def body(self) -> str:
        """``text`` without the withheld spans."""
        if not self.withheld:
            return self.text
        kept, position = [], 0
        for start, end in sorted(self.withheld):
            kept.append(self.text[position:start])
            position = max(position, end)
        kept.append(self.text[position:])
        return " ".join(part.strip() for part in kept if part.strip())

    @property
    def indexed_text(self) -> str:
        """What every lane indexes and every model reads: headings (or else the title), a newline, the body."""
        header = " > ".join(self.headings) or self.title
        return f"{header}\n{self.body}" if header else self.body


@dataclass(frozen=True, slots=True)
class Query:
    query_id: str
    text: str
    task: str = ""
    origin: str = "user"  # user | mined | paraphrased | extracted
    answers: tuple[str, ...] = ()
    history: tuple[str, ...] = ()

    @property
    def searched_text(self) -> str:
        """What every lane searches for and every model reads: the question, and after it the turns before it, the
        newest first, so that what is too long for a model loses the oldest of them."""
        return "\n".join((self.text, *reversed(self.history)))


@dataclass(frozen=True, slots=True)
class Judged:
    """The queries of one split with their relevance judgements."""

    queries: tuple[Query, ...]
    qrels: Qrels


@dataclass(frozen=True, slots=True)
class Collection:
    """A corpus of passages with judged queries per split (``train``, ``dev``, ``test``, or further test slices)."""

    name: str
    passages: tuple[Passage, ...]
    splits: Mapping[str, Judged]


@dataclass(frozen=True, slots=True)
class Run:
    """What one system retrieved: query_id -> ranked [(passage_id, score)]."""

    name: str
    results: Mapping[str, Hits]
    queries_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class HardNegatives:
    """The negatives of one query. ``probabilities`` is None unless the strategy draws anew at every batch."""

    query_id: str
    passage_ids: tuple[str, ...]
    scores: tuple[float, ...]
    positive_scores: Mapping[str, float]
    strategy: str
    probabilities: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One query with its positive and negatives; ``positive`` is None only where teacher scores stand in."""

    query: Query
    positive: Passage | None
    negatives: tuple[Passage, ...] = ()
    teacher_scores: tuple[float, ...] | None = None
    task: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """One thing that a stage left out, and why."""

    id: str
    stage: str
    reason: str
    text: str = ""
    score: float | None = None
    passage_id: str = ""


@dataclass(frozen=True, slots=True)
class Filtered(Generic[T]):
    kept: tuple[T, ...]
    dropped: tuple[Dropped, ...] = ()
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired difference ``treatment - baseline`` of one measure with its 95% interval."""

    baseline: str
    treatment: str
    measure: str
    difference: float
    ci_low: float
    ci_high: float
    p: float
    n_queries: int
