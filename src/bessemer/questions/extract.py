"""Questions without a language model: taken from the documents' own words, and taken out of them.

A heading, a title, a sentence (inverse cloze task, Lee et al. 2019, arXiv 1906.00300) or a key phrase becomes the
query; its words no longer stand in the indexed text of the passages it is about, in training and in evaluation. Such
questions are easier and stiffer than people's: a verdict that rests on them alone is never `ship`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bessemer.config import QuestionsConfig
from bessemer.draws import uniform
from bessemer.questions.candidates import BodyCandidates, Candidate, by_home, heading_candidates
from bessemer.questions.split import MAX_SEEN, SEEN_SHARE
from bessemer.questions.withhold import withhold
from bessemer.text import normal_form, units
from bessemer.types import Dropped, Judged, Passage, Query

STAGE = "questions"
PER_PASSAGE = 2
MAX_SIMILARITY = 0.6  # of the words of a seen question and a train question
MAX_TRIED = 3  # sentences and phrases of a passage that are tried before it goes without


@dataclass(frozen=True, slots=True)
class Extracted:
    """All passages, with what was withheld, and the queries per split: train, dev, test, seen."""

    passages: tuple[Passage, ...]
    splits: Mapping[str, Judged]
    dropped: tuple[Dropped, ...] = ()


def extract_questions(
    passages: Sequence[Passage], splits: Mapping[str, str], config: QuestionsConfig, seed: int
) -> Extracted:
    """Extract at most ``config.per_passage`` queries (default 2) per train passage, ``config.per_test_passage`` per dev
    or test passage.

    ``splits`` maps doc_id to train, dev or test. Test documents are unseen in training; the further split ``seen`` asks
    new questions of train documents (at most 200, or one for a fifth of the train passages). A heading is relevant to
    all passages of its section. The same seed gives the same questions, and a new document changes those of others only
    where a phrase is no longer unique. A split may be left without a query.
    """
    shelf = _Shelf(passages)
    good: list[Candidate] = []
    for candidate, fault in heading_candidates(passages):
        if fault:
            shelf.drop(candidate, fault)
        else:
            good.append(candidate)
    headings, bodies = by_home(good), BodyCandidates(passages)
    for passage in passages:
        split = splits[passage.doc_id]
        limit = (config.per_passage or PER_PASSAGE) if split == "train" else config.per_test_passage
        _take(shelf, split, limit, [headings.get(passage.passage_id, []), *_from_body(bodies, passage, seed)], bodies)
    train = [passage for passage in passages if splits[passage.doc_id] == "train"]
    train.sort(key=lambda passage: uniform(seed, passage.passage_id))
    n_seen = min(MAX_SEEN, int(SEEN_SHARE * len(train)))
    for passage in train:
        if len(shelf.queries["seen"]) >= n_seen:
            break
        _take(shelf, "seen", 1, _from_body(bodies, passage, seed), bodies)
    return shelf.finish()


def _from_body(bodies: BodyCandidates, passage: Passage, seed: int) -> list[list[Candidate]]:
    """Sentences and phrases of a passage, whose turn is first drawn by its id."""
    kinds = [bodies.sentences(passage), bodies.phrases(passage)]
    return kinds if uniform(seed, f"kind {passage.passage_id}") < 0.5 else kinds[::-1]


class _Shelf:
    """The passages as they are reduced, and the queries taken so far."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = {passage.passage_id: passage for passage in passages}
        self.queries: dict[str, list[Query]] = {"train": [], "dev": [], "test": [], "seen": []}
        self.qrels: dict[str, dict[str, dict[str, int]]] = {name: {} for name in self.queries}
        self.dropped: list[Dropped] = []
        self.taken: set[str] = set()
        self.query_ids: set[str] = set()
        self.train_words: list[frozenset[str]] = []

    def drop(self, candidate: Candidate, reason: str) -> None:
        self.dropped.append(Dropped(_query_id(candidate), STAGE, reason, candidate.text, None, candidate.home))

    def has(self, candidate: Candidate) -> bool:
        return _query_id(candidate) in self.query_ids

    def take(self, split: str, candidate: Candidate) -> str:
        """Make the candidate a query of the split, or return why not."""
        form = normal_form(candidate.text)
        if form in self.taken:
            return "the same text as another query"
        words = frozenset(units(candidate.text))
        if split == "seen" and any(_jaccard(words, other) >= MAX_SIMILARITY for other in self.train_words):
            return "nearly the same as a train question"
        reduced = [withhold(self.passages[passage_id], candidate) for passage_id in candidate.relevant]
        if any(passage is None for passage in reduced):
            return "leaves its passage too short, or stands in it in another form"
        for passage in reduced:
            assert passage is not None
            self.passages[passage.passage_id] = passage
        self.taken.add(form)
        query = Query(_query_id(candidate), candidate.text, origin="extracted")
        self.query_ids.add(query.query_id)
        self.queries[split].append(query)
        if split == "train":
            self.train_words.append(words)
        self.qrels[split][query.query_id] = dict.fromkeys(candidate.relevant, 1)
        return ""

    def finish(self) -> Extracted:
        splits = {name: Judged(tuple(queries), self.qrels[name]) for name, queries in self.queries.items()}
        return Extracted(tuple(self.passages.values()), splits, tuple(self.dropped))


def _take(shelf: _Shelf, split: str, limit: int, kinds: Sequence[Sequence[Candidate]], bodies: BodyCandidates) -> None:
    """Take up to ``limit`` queries, one kind after the other and then again from the first."""
    turns = [_tries(shelf, split, candidates, bodies) for candidates in kinds]
    n_taken = 0
    while turns and n_taken < limit:
        for turn in list(turns):
            if n_taken < limit:
                if next(turn, False):
                    n_taken += 1
                else:
                    turns.remove(turn)


def _tries(shelf: _Shelf, split: str, candidates: Sequence[Candidate], bodies: BodyCandidates) -> Iterator[bool]:
    """Yield True for each candidate taken; give up after a few that were not."""
    n_refused = 0
    for candidate in candidates:
        if shelf.has(candidate):
            continue
        if n_refused >= MAX_TRIED:
            return
        unique = candidate.kind in ("heading", "title") or bodies.n_passages_with(candidate.text) <= 1
        reason = shelf.take(split, candidate) if unique else "ambiguous: the same words in another passage"
        if reason:
            shelf.drop(candidate, reason)
            n_refused += 1
        else:
            yield True


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / max(1, len(left | right))


def _query_id(candidate: Candidate) -> str:
    digest = hashlib.sha256("\n".join((candidate.home, candidate.text)).encode("utf-8")).hexdigest()[:12]
    return f"{candidate.kind}-{digest}"
