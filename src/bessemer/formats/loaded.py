"""What every reader of judged data returns, and the warnings that any collection can earn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from bessemer.text import folded
from bessemer.types import Collection, HardNegatives, Judged, Passage, Query


@dataclass(frozen=True)
class Loaded:
    """A collection with all that its file said besides.

    ``counts`` holds whatever was converted, ignored, carved or found doubtful; ``warnings`` says the same in sentences.
    ``teacher_scores`` is query_id -> {passage_id: score}; ``prompts`` and ``types`` (BGE's columns) are by query_id.
    """

    collection: Collection
    warnings: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    negatives: tuple[HardNegatives, ...] = ()
    teacher_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)


class Notes:
    """Counts gathered while reading; each has a sentence with ``{n}`` in it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sentences: dict[str, str] = {}

    def add(self, key: str, sentence: str, n: int = 1) -> None:
        if n:
            self.counts[key] += n
            self.sentences[key] = sentence

    def warnings(self) -> tuple[str, ...]:
        return tuple(sentence.format(n=self.counts[key]) for key, sentence in self.sentences.items())


def inspect(collection: Collection, notes: Notes) -> None:
    """Count empty texts, duplicates, and leaks between splits. Nothing is changed."""
    passages = {passage.passage_id: passage for passage in collection.passages}
    texts = {passage_id: folded(passage.indexed_text) for passage_id, passage in passages.items()}
    notes.add(
        "empty_passages",
        "{n} passages have an empty text; they stay in the corpus",
        sum(not passage.text.strip() for passage in passages.values()),
    )
    n_texts = [text for text in texts.values() if text]
    notes.add("duplicate_passages", "{n} passages repeat the text of another passage", len(n_texts) - len(set(n_texts)))
    for name, judged in collection.splits.items():
        _inspect_split(name, judged, passages, notes)
    names = list(collection.splits)
    for position, left in enumerate(names):
        for right in names[position + 1 :]:
            _inspect_leaks(left, right, collection.splits, texts, notes)


def _inspect_split(name: str, judged: Judged, passages: Mapping[str, Passage], notes: Notes) -> None:
    texts = [folded(query.searched_text) for query in judged.queries]
    filled = [text for text in texts if text]
    notes.add(f"empty_queries.{name}", f"{{n}} {name} queries have an empty text", len(texts) - len(filled))
    notes.add(
        f"duplicate_queries.{name}",
        f"{{n}} {name} queries repeat the text of another one",
        len(filled) - len(set(filled)),
    )
    n_unanswered = sum(
        not any(grade > 0 for grade in judged.qrels.get(query.query_id, {}).values()) for query in judged.queries
    )
    notes.add(f"no_positive.{name}", f"{{n}} {name} queries have no relevant passage", n_unanswered)
    notes.add(
        f"answer_as_passage.{name}",
        f"{{n}} {name} queries have their own answer for a relevant passage: pair questions with the passages that "
        "hold the answers, as search will meet those",
        sum(_is_its_answer(query, judged.qrels.get(query.query_id, {}), passages) for query in judged.queries),
    )


def _is_its_answer(query: Query, grades: Mapping[str, int], passages: Mapping[str, Passage]) -> bool:
    answers = {folded(answer) for answer in query.answers}
    positives = [passages[p] for p, grade in grades.items() if grade > 0 and p in passages] if answers else []
    return any(folded(passage.text) in answers for passage in positives)


def _inspect_leaks(left: str, right: str, splits: Mapping[str, Judged], texts: Mapping[str, str], notes: Notes) -> None:
    both = f"{left} and {right}"
    queries = [
        {query.query_id: folded(query.searched_text) for query in splits[name].queries} for name in (left, right)
    ]
    shared_texts = (set(queries[0].values()) & set(queries[1].values())) - {""}
    notes.add(f"leak.query_text.{left}-{right}", f"leak: {{n}} query texts stand in {both}", len(shared_texts))
    n_ids = len(queries[0].keys() & queries[1].keys())
    notes.add(f"leak.query_id.{left}-{right}", f"leak: {{n}} query ids stand in {both}", n_ids)
    positives = [
        {texts[p] for grades in splits[name].qrels.values() for p, grade in grades.items() if grade > 0 and p in texts}
        for name in (left, right)
    ]
    notes.add(
        f"leak.positive.{left}-{right}",
        f"{{n}} passages are relevant in {both} (natural where splits share a corpus)",
        len((positives[0] & positives[1]) - {""}),
    )
