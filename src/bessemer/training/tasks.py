"""What training runs on: tasks that make batches of their examples and know their loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import DataError, Problem
from bessemer.training.batches import Collator, TrainingData, TrainingSet, write_batch
from bessemer.training.hardware import mini_batch_tokens
from bessemer.training.losses import batch_loss
from bessemer.training.mini_batches import Features
from bessemer.types import HardNegatives

Batch = dict[str, Any]


class Task(Protocol):
    """One kind of examples with their loss. Examples are numbered from 0 within it."""

    name: str
    batch_size: int
    epoch: int

    @property
    def n_tokens(self) -> int:
        """Encoded so far."""

    @property
    def n_padded_tokens(self) -> int:
        """The same with padding."""

    def __len__(self) -> int: ...

    def batch(self, examples: Sequence[int]) -> Batch:
        """Features and all that the loss needs. ``n_tokens``: padded ones of the batch."""

    def mini_batches(self, batch: Batch) -> list[Features]:
        """What is encoded, piece by piece."""

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        """Of the embeddings (n, d) of all mini-batches, in their order; the mean over the batch's examples."""

    def halve(self) -> bool:
        """Make mini-batches of half the size from now on; False where they cannot be smaller."""

    def write(self, examples: Sequence[int], folder: Path) -> Path:
        """A batch as a file for a person to read."""

    def notes(self) -> tuple[str, ...]:
        """What a reader of the training report should know of the data."""


class RetrievalTask:
    """Queries with judged passages and hard negatives."""

    def __init__(self, data: TrainingData, encoder: DenseEncoder, config: FinetuneConfig, seed: int) -> None:
        """Raises DataError when no query has a relevant passage, ConfigError for a loss that does not fit."""
        config = data.settings or config
        encoder = encoder.for_task(data.task, config.max_length, config.query_max_length)
        self.name = data.name
        self.miner = data.miner
        self.examples = TrainingSet(data.judged, data.passages, data.negatives, config.n_negatives, seed)
        if not len(self.examples):
            message = "no train query has a relevant passage in the corpus"
            raise DataError([Problem(f"train {data.name}".strip(), None, "qrels", message, "add judgements > 0")])
        self._encoder = encoder
        self._asked_batch_size = config.per_device_train_batch_size
        self.batch_size = min(self._asked_batch_size, len(self.examples))
        self.collator = Collator(
            encoder,
            self.examples,
            config.mini_batch_tokens or mini_batch_tokens(encoder),
            exclude_same_document=config.exclude_same_document,
        )
        self._batch_loss = batch_loss(config, encoder.dimension, normalised=encoder.similarity == "cosine")

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def epoch(self) -> int:
        return self.examples.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.examples.epoch = epoch

    @property
    def n_tokens(self) -> int:
        return self.collator.mini_batches.n_tokens

    @property
    def n_padded_tokens(self) -> int:
        return self.collator.mini_batches.n_padded_tokens

    def batch(self, examples: Sequence[int]) -> Batch:
        return self.collator([self.examples[i] for i in examples])

    def mini_batches(self, batch: Batch) -> list[Features]:
        return [*batch["queries"]["features"], *batch["passages"]["features"]]

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        n_queries = len(batch["queries"]["features"])
        queries = torch.cat(list(embeddings[:n_queries]))[batch["queries"]["order"]]
        passages = torch.cat(list(embeddings[n_queries:]))[batch["passages"]["order"]]
        return self._batch_loss(queries, passages, batch["positives"], batch["excluded"])

    def mine(self) -> str:
        """Negatives of the weights as they are now; says in words what changed."""
        assert self.miner is not None
        before = {row.query_id: set(row.passage_ids) for row in self.negatives}
        found = self.miner(self._encoder)
        n_new = sum(len(set(row.passage_ids) - before.get(row.query_id, set())) for row in found)
        self.examples.take(found)
        return f"{n_new} of {sum(len(row.passage_ids) for row in found)} changed"

    @property
    def negatives(self) -> Sequence[HardNegatives]:
        return self.examples.negatives

    def halve(self) -> bool:
        return self.collator.mini_batches.halve()

    def write(self, examples: Sequence[int], folder: Path) -> Path:
        return write_batch(self.examples, [self.examples[i] for i in examples], folder)

    def notes(self) -> tuple[str, ...]:
        notes = self.examples.notes(self._asked_batch_size)
        return tuple(f"{self.name}: {note}" for note in notes) if self.name else notes
