"""From judged queries and mined negatives to batches: pairs, cached tokens, masks.

Texts are tokenised once per run. In a batch every distinct text of a side is encoded once, in mini-batches sorted by
length; the loss sees them in batch order again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.draws import generator, weighted_order
from bessemer.encoders.encoder import Encoder
from bessemer.errors import DataError, Problem
from bessemer.text import folded
from bessemer.training.mini_batches import MiniBatches, Tokenizes
from bessemer.types import HardNegatives, Judged, Passage

Miner = Callable[[Encoder], Sequence[HardNegatives]]
MaskOf = Callable[[Sequence["Row"], Sequence[int]], Tensor]
"""(rows of a batch, its passages) to (B, P): True where a passage must be no negative of a row's query."""


@dataclass(frozen=True)
class TrainingData:
    """What is trained on. ``miner``, where negatives are to follow the weights, mines with the encoder as it is now.
    ``guide``, where ``finetune.guide`` names one, is that model. Losses of distillation learn from ``teacher_scores``,
    query_id -> {passage_id: score}, in any unit; a query that has some needs no judgement.

    ``name`` tells several apart in reports; ``task`` names the prompts of the encoder to use; ``settings`` replace the
    run's for this part: loss, temperature, batch size, lengths, number of negatives.
    """

    judged: Judged
    passages: Sequence[Passage]
    negatives: Sequence[HardNegatives] = ()
    miner: Miner | None = None
    name: str = ""
    task: str = ""
    settings: FinetuneConfig | None = None
    guide: Encoder | None = None
    teacher_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One training example by position: query, its positive, and this turn's negatives."""

    query: int
    positive: int
    negatives: tuple[int, ...]


class Examples(torch.utils.data.Dataset[int]):
    """The numbers of the training examples: all that a data loader needs to shuffle and to skip."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> int:
        return index


class TrainingSet(torch.utils.data.Dataset[Row]):
    """One example per (query, relevant passage), with other ones of the query's mined negatives in each ``turn``: how
    often all examples have been used before.

    They are taken in their order, which mining makes the nearest first: the first example of a query takes the first
    ``n_negatives``, its next example, or its next turn, those after them, and after the last comes the first again.
    A strategy with probabilities draws. Either depends on (seed, turn, example) alone, so a resumed run has what the
    interrupted one would have had.
    """

    def __init__(
        self,
        judged: Judged,
        passages: Sequence[Passage],
        negatives: Sequence[HardNegatives],
        n_negatives: int,
        seed: int,
    ) -> None:
        self.queries = judged.queries
        self.passages = passages
        self.n_negatives = n_negatives
        self.seed = seed
        self.turn = 0
        self._position = position = {passage.passage_id: i for i, passage in enumerate(passages)}
        self.take(negatives)
        asked = {query.query_id for query in judged.queries}
        lacking = [p for row in negatives if row.query_id in asked for p in row.passage_ids if p not in position]
        self._n_lacking = len(lacking)
        self.relevant: list[frozenset[int]] = [
            frozenset(
                position[p] for p, grade in judged.qrels.get(q.query_id, {}).items() if grade > 0 and p in position
            )
            for q in judged.queries
        ]
        self.never_negative = self._relevant_to_the_text()
        self.pairs = [(query, passage) for query, ids in enumerate(self.relevant) for passage in sorted(ids)]
        self._place = [place for ids in self.relevant for place in range(len(ids))]

    def take(self, negatives: Sequence[HardNegatives]) -> None:
        """These from now on."""
        self.negatives = negatives
        mined = {row.query_id: _known(row, self._position) for row in negatives}
        found = [mined.get(query.query_id, ([], None)) for query in self.queries]
        self.mined = [candidates for candidates, _ in found]
        self._probabilities = [probabilities for _, probabilities in found]

    def _relevant_to_the_text(self) -> list[frozenset[int]]:
        """Per query, what is relevant to it or to a query of the same text: the same words asked in another row."""
        texts = [folded(query.searched_text) for query in self.queries]
        by_text: dict[str, set[int]] = defaultdict(set)
        for text, ids in zip(texts, self.relevant, strict=True):
            by_text[text] |= ids
        return [frozenset(by_text[text]) for text in texts]

    def same_texts(self) -> list[list[int]]:
        """Per query, the passages with the text of one that is never its negative, those among them."""
        groups = _groups(folded(passage.indexed_text) for passage in self.passages)
        members: dict[int, list[int]] = defaultdict(list)
        for position, group in enumerate(groups):
            members[group].append(position)
        return [sorted({m for p in never for m in members[groups[p]]}) for never in self.never_negative]

    def used(self) -> set[int]:
        """The passages that can occur in a batch: a large corpus is not read for its judged few."""
        return {p for _, p in self.pairs} | {p for candidates in self.mined for p in candidates}

    def __len__(self) -> int:
        return len(self.pairs)

    def notes(self, batch_size: int) -> tuple[str, ...]:
        """What a reader of the training report should know of the data: nothing is left out without a count."""
        notes = []
        n_unused = sum(not ids for ids in self.relevant)
        if n_unused:
            notes.append(f"{n_unused} train queries without a relevant passage were not trained on")
        if self._n_lacking:
            notes.append(f"{self._n_lacking} hard negatives are of passages that the corpus lacks: they were left out")
        n_bare = sum(len(self.candidates(i)) < self.n_negatives for i in range(len(self)))
        if n_bare:
            few = "no hard negative" if self.n_negatives == 1 else f"fewer than {self.n_negatives} hard negatives"
            notes.append(f"{n_bare} of {len(self.pairs)} examples have {few}")
        if len(self.pairs) < batch_size:
            notes.append(f"batch size {len(self.pairs)}: there are no more examples")
        return tuple(notes)

    def candidates(self, index: int) -> list[int]:
        """What an example's negatives are taken from: the query's, which a positive may be among for another of its
        positives."""
        query, positive = self.pairs[index]
        return [p for p in self.mined[query] if p != positive]

    def __getitem__(self, index: int) -> Row:
        query, positive = self.pairs[index]
        candidates = self.candidates(index)
        if len(candidates) <= self.n_negatives:
            return Row(query, positive, tuple(candidates))
        probabilities = self._probabilities[query]
        if probabilities is None:
            start = (self.turn * len(self.relevant[query]) + self._place[index]) * self.n_negatives
            taken = [candidates[(start + i) % len(candidates)] for i in range(self.n_negatives)]
        else:
            random = generator(self.seed, f"{self.turn}:{index}")
            by_wait = [self.mined[query][i] for i in weighted_order(probabilities, random)]
            taken = [p for p in by_wait if p != positive][: self.n_negatives]
        return Row(query, positive, tuple(taken))


def require_examples(training_set: TrainingSet, name: str) -> None:
    """Raises DataError when no query has a relevant passage."""
    if not len(training_set):
        message = "no train query has a relevant passage in the corpus"
        raise DataError([Problem(f"train {name}".strip(), None, "qrels", message, "add judgements > 0")])


def _known(row: HardNegatives, position: Mapping[str, int]) -> tuple[list[int], NDArray[np.float64] | None]:
    """The negatives that the corpus holds, by position, with their probabilities where the strategy draws by them."""
    kept = [i for i, passage_id in enumerate(row.passage_ids) if passage_id in position]
    candidates = [position[row.passage_ids[i]] for i in kept]
    return candidates, None if row.probabilities is None else np.array([row.probabilities[i] for i in kept])


class Collator:
    """Rows to one batch: mini-batches of queries and of passages, the positives' rows, the mask."""

    def __init__(
        self,
        encoder: Tokenizes,
        training_set: TrainingSet,
        mini_batch_tokens: int,
        *,
        exclude_same_document: bool = False,
        own_negatives_only: bool = False,
        guide: MaskOf | None = None,
    ) -> None:
        self._set = training_set
        self.mini_batches = MiniBatches(encoder, mini_batch_tokens)
        self._query_tokens = self.mini_batches.tokenize(
            [query.searched_text for query in training_set.queries], "query"
        )
        self._passage_tokens: dict[int, list[int]] = {}
        self._tokenize(sorted(training_set.used()))
        self._text_group = _groups(folded(passage.indexed_text) for passage in training_set.passages)
        self._document = _groups(p.doc_id for p in training_set.passages) if exclude_same_document else None
        self._own_negatives_only = own_negatives_only
        self._guide = guide

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        passages = list(dict.fromkeys(p for row in rows for p in (row.positive, *row.negatives)))
        self._tokenize([p for p in passages if p not in self._passage_tokens])
        column = {passage: i for i, passage in enumerate(passages)}
        before = self.mini_batches.n_padded_tokens
        queries = self.mini_batches([self._query_tokens[row.query] for row in rows], "query")
        found = self.mini_batches([self._passage_tokens[p] for p in passages], "passage")
        return {
            "queries": queries,
            "passages": found,
            "n_tokens": self.mini_batches.n_padded_tokens - before,
            "columns": torch.tensor(passages),  # which passage stands in each row
            "positives": torch.tensor([column[row.positive] for row in rows]),
            "excluded": self._false_negatives(rows, passages),
        }

    def tokens_per_example(self) -> float:
        """Of a query, its positive and the negatives drawn with it, on average and without padding."""
        drawn = [min(len(self._set.candidates(i)), self._set.n_negatives) for i in range(len(self._set))]
        query, passage = (
            float(np.mean([len(ids) for ids in side])) for side in (self._query_tokens, self._passage_tokens.values())
        )
        return query + (1 + float(np.mean(drawn))) * passage

    def _tokenize(self, passages: Sequence[int]) -> None:
        if passages:  # a refresh brings passages that no batch has seen
            texts = [self._set.passages[p].indexed_text for p in passages]
            self._passage_tokens.update(zip(passages, self.mini_batches.tokenize(texts, "passage"), strict=True))

    def _false_negatives(self, rows: Sequence[Row], passages: Sequence[int]) -> Tensor:
        """(B, P) mask: judged relevant to the query or its like, of the same text as a passage that is, or, where that
        is asked for, of the positive's document, no hard negative of the query's own, or told by a guide."""
        groups = torch.tensor([self._text_group[p] for p in passages])
        excluded = torch.zeros(len(rows), len(passages), dtype=torch.bool)
        for i, row in enumerate(rows):
            own = torch.tensor(sorted({self._text_group[p] for p in self._set.never_negative[row.query]}))
            excluded[i] = torch.isin(groups, own)
        if self._document is not None:
            documents = torch.tensor([self._document[p] for p in passages])
            excluded |= torch.tensor([self._document[row.positive] for row in rows])[:, None] == documents
        if self._own_negatives_only:
            columns = torch.tensor(passages)
            excluded |= ~torch.stack([torch.isin(columns, torch.tensor(row.negatives).long()) for row in rows])
        if self._guide is not None:
            excluded |= self._guide(rows, passages)
        return excluded


def _groups(values: Iterable[str]) -> list[int]:
    """The same number for the same value."""
    groups: dict[str, int] = defaultdict(lambda: len(groups))
    return [groups[value] for value in values]


def write_batch(
    training_set: TrainingSet, rows: Sequence[Row], folder: Path, teacher: Sequence[Mapping[int, float]] = ()
) -> Path:
    """The batch's queries and passages as BGE JSONL with ids, for a person who asks what went wrong in it.

    ``teacher``: per query of the training set, the scores of passages; a row that has them all is written with them.
    """
    file = folder / "failed_batch.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for row in rows:
            query, positive = training_set.queries[row.query], training_set.passages[row.positive]
            negatives = [training_set.passages[p] for p in row.negatives]
            line: dict[str, Any] = {
                "query": query.text,
                **({"history": list(query.history)} if query.history else {}),
                "pos": [positive.indexed_text],
                "neg": [passage.indexed_text for passage in negatives] or [""],
                "query_id": query.query_id,
                "pos_ids": [positive.passage_id],
                "neg_ids": [passage.passage_id for passage in negatives],
            }
            scores = teacher[row.query] if teacher else {}
            if all(p in scores for p in (row.positive, *row.negatives)):
                line["teacher_scores"] = [scores[p] for p in (row.positive, *row.negatives)]
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    return file
