"""What training runs on: tasks that make batches of their examples and know their loss."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bessemer.config import FinetuneConfig
from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError
from bessemer.training.batches import Collator, TrainingData, TrainingSet, require_examples, write_batch
from bessemer.training.guide import Guide
from bessemer.training.hardware import auto_batch_size, mini_batch_tokens
from bessemer.training.lora import merged
from bessemer.training.losses import LOSSES, ScoreMargin, batch_loss
from bessemer.training.mini_batches import Features, MiniBatches
from bessemer.types import HardNegatives

log = logging.getLogger("bessemer")

Batch = dict[str, Any]
E = TypeVar("E", bound=Trainable)


class Task(Protocol):
    """One kind of examples with their loss. Examples are numbered from 0 within it."""

    name: str
    batch_size: int
    turn: int
    """How often all examples have been used before: another turn may draw other negatives."""
    parts: Mapping[str, Tensor]
    """Of the last loss, by name, without gradients; empty where a loss has none."""

    @property
    def pieces(self) -> MiniBatches:
        """What cuts its texts, and counts their tokens."""

    def __len__(self) -> int: ...

    def batch(self, examples: Sequence[int]) -> Batch:
        """Features and all that the loss needs. ``n_tokens``: padded ones of the batch."""

    def mini_batches(self, batch: Batch) -> list[Features]:
        """What is encoded, piece by piece."""

    def embed(self, model: nn.Module, features: Features) -> Tensor:
        """What the loss needs of each text of a mini-batch, one row per text. ``model``: the encoder's, as the trainer
        runs it."""

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        """Of the embeddings (n rows each) of all mini-batches, in their order; the mean over the batch's examples."""

    def write(self, examples: Sequence[int], folder: Path) -> Path:
        """A batch as a file for a person to read."""

    def notes(self) -> tuple[str, ...]:
        """What a reader of the training report should know of the data."""


def of_part(encoder: E, task: str, settings: FinetuneConfig | None) -> E:
    """``encoder`` with the prompts, and where it has settings of its own the lengths, of one part of a training."""
    lengths = (settings.max_length, settings.query_max_length) if settings else (None, None)
    return encoder.for_task(task, *lengths)


def _guide(data: TrainingData, examples: TrainingSet, config: FinetuneConfig) -> Guide | None:
    if (data.guide is None) != (config.guide is None):
        raise ConfigError("finetune.guide: names the model that TrainingData.guide is; give both or neither")
    return None if data.guide is None else Guide(data.guide, examples, ScoreMargin.of(config))


def settled_batch_size(
    config: FinetuneConfig, encoder: Trainable, n_examples: int, tokens_per_example: float, name: str
) -> int:
    """What is asked for; for ``auto``, what data and device make of it, which is logged."""
    asked = config.per_device_train_batch_size
    if asked != "auto":
        return asked
    chosen = auto_batch_size(encoder, n_examples, tokens_per_example)
    log.info(
        "training: batches of %d (auto: %d examples%s, of %.0f tokens each)",
        *(chosen, n_examples, f" of {name}" if name else "", tokens_per_example),
    )
    return chosen


def dense_vectors(encoder: Trainable, model: nn.Module, features: Features) -> Tensor:
    """(n, d) of a mini-batch, as the encoder gives them: many cosine models have no module for it."""
    found: Tensor = model(features)["sentence_embedding"].float()[:, : encoder.dimension]
    return F.normalize(found, dim=-1) if encoder.similarity == "cosine" else found


def sides(embeddings: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
    """Queries (B, d) and passages (P, d) of a batch of a Collator, in its order."""
    n_queries = len(batch["queries"]["features"])
    queries = torch.cat(list(embeddings[:n_queries]))[batch["queries"]["order"]]
    passages = torch.cat(list(embeddings[n_queries:]))[batch["passages"]["order"]]
    return queries, passages


def unused_scores(data: TrainingData, loss: str | None) -> tuple[str, ...]:
    """A note where teacher scores are there and the loss learns nothing from them."""
    n = sum(query.query_id in data.teacher_scores for query in data.judged.queries)
    name = loss or next(iter(LOSSES))
    return (f"the teacher scores of {n} queries are not used: `{name}` learns from judgements alone",) if n else ()


class RetrievalTask:
    """Queries with judged passages and hard negatives."""

    def __init__(self, data: TrainingData, encoder: Trainable, config: FinetuneConfig, seed: int) -> None:
        """Raises DataError when no query has a relevant passage, ConfigError for a loss that does not fit."""
        encoder = of_part(encoder, data.task, data.settings)
        config = data.settings or config
        self.name = data.name
        self.miner = data.miner
        self.parts: Mapping[str, Tensor] = {}
        self.examples = TrainingSet(data.judged, data.passages, data.negatives, config.n_negatives, seed)
        require_examples(self.examples, data.name)
        if config.loss == "triplet" and not (config.n_negatives and any(self.examples.mined)):
            raise ConfigError("finetune.loss: `triplet` needs hard negatives; set --n-negatives, or bring some")
        self._encoder = encoder
        self.collator = Collator(
            encoder,
            self.examples,
            config.mini_batch_tokens or mini_batch_tokens(encoder),
            exclude_same_document=config.exclude_same_document,
            own_negatives_only=config.loss == "triplet",
            guide=_guide(data, self.examples, config),
        )
        self._asked_batch_size = settled_batch_size(
            config, encoder, len(self.examples), self.collator.tokens_per_example(), self.name
        )
        self.batch_size = min(self._asked_batch_size, len(self.examples))
        self._batch_loss = batch_loss(config, encoder.dimension, normalised=encoder.similarity == "cosine")
        self._unused = unused_scores(data, config.loss)

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def turn(self) -> int:
        return self.examples.turn

    @turn.setter
    def turn(self, turn: int) -> None:
        self.examples.turn = turn

    @property
    def pieces(self) -> MiniBatches:
        return self.collator.mini_batches

    def batch(self, examples: Sequence[int]) -> Batch:
        return self.collator([self.examples[i] for i in examples])

    def mini_batches(self, batch: Batch) -> list[Features]:
        return [*batch["queries"]["features"], *batch["passages"]["features"]]

    def embed(self, model: nn.Module, features: Features) -> Tensor:
        return dense_vectors(self._encoder, model, features)

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        return self._batch_loss(*sides(embeddings, batch), batch["positives"], batch["excluded"])

    def mine(self) -> str:
        """Negatives of the weights as they are now; says in words what changed."""
        assert self.miner is not None
        before = {row.query_id: set(row.passage_ids) for row in self.negatives}
        with merged(self._encoder):
            found = self.miner(self._encoder)
        n_new = sum(len(set(row.passage_ids) - before.get(row.query_id, set())) for row in found)
        self.examples.take(found)
        return f"{n_new} of {sum(len(row.passage_ids) for row in found)} changed"

    @property
    def negatives(self) -> Sequence[HardNegatives]:
        return self.examples.negatives

    def write(self, examples: Sequence[int], folder: Path) -> Path:
        return write_batch(self.examples, [self.examples[i] for i in examples], folder)

    def notes(self) -> tuple[str, ...]:
        return (*self.examples.notes(self._asked_batch_size), *self._unused)
