"""Pairs of texts with scores (STS) or labels 0 and 1, as a task of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import DataError, Problem
from bessemer.formats.pairs import JudgedPairs, LabelledPair
from bessemer.training.hardware import mini_batch_tokens
from bessemer.training.losses import pair_loss
from bessemer.training.mini_batches import Features, MiniBatches
from bessemer.training.preflight import require_settings_of_pairs
from bessemer.training.tasks import Batch, dense_vectors, of_part, settled_batch_size


@dataclass(frozen=True)
class PairData:
    """Pairs to train on. ``name``, ``task`` and ``settings`` as in TrainingData."""

    pairs: JudgedPairs
    name: str = ""
    task: str = ""
    settings: FinetuneConfig | None = None


class PairTask:
    """Pairs whose similarity shall follow their scores or labels. Both texts are encoded as passages, as evaluation
    does; every distinct text of a batch once.

    Losses that compare cosines with scores need these from 0 to 1: scores on another scale are brought to it, the
    lowest to 0 and the highest to 1.
    """

    def __init__(self, data: PairData, encoder: DenseEncoder, config: FinetuneConfig) -> None:
        """Raises DataError where all pairs have the same score, ConfigError for a loss that does not fit."""
        alone = data.settings is None
        encoder = of_part(encoder, data.task, data.settings)
        config = data.settings or config
        require_difference(data.pairs, f"train {data.name}".strip())
        labelled = isinstance(data.pairs[0], LabelledPair)
        require_settings_of_pairs(config, encoder, labelled=labelled, alone=alone)
        self.name = data.name
        self.turn = 0
        self.parts: Mapping[str, Tensor] = {}
        self._encoder = encoder
        self._pairs = data.pairs
        texts = list(dict.fromkeys(text for pair in data.pairs for text in (pair.left, pair.right)))
        row = {text: i for i, text in enumerate(texts)}
        self._sides = [(row[pair.left], row[pair.right]) for pair in data.pairs]
        self.pieces = MiniBatches(encoder, config.mini_batch_tokens or mini_batch_tokens(encoder))
        self._tokens = self.pieces.tokenize(texts, "passage")
        n_tokens = 2 * float(np.mean([len(ids) for ids in self._tokens]))
        self._asked_batch_size = settled_batch_size(config, encoder, len(data.pairs), n_tokens, self.name)
        self.batch_size = min(self._asked_batch_size, len(data.pairs))
        self._scale = _scale(data.pairs)
        self._loss = pair_loss(
            config,
            encoder.dimension,
            normalised=encoder.similarity == "cosine",
            labelled=labelled,
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def batch(self, examples: Sequence[int]) -> Batch:
        """``left`` and ``right`` (n,): rows of the distinct texts; ``targets`` (n,): scores from 0 to 1."""
        texts = list(dict.fromkeys(text for i in examples for text in self._sides[i]))
        row = {text: i for i, text in enumerate(texts)}
        before = self.pieces.n_padded_tokens
        low, high = self._scale
        return {
            "texts": self.pieces([self._tokens[text] for text in texts], "passage"),
            "n_tokens": self.pieces.n_padded_tokens - before,
            "left": torch.tensor([row[self._sides[i][0]] for i in examples]),
            "right": torch.tensor([row[self._sides[i][1]] for i in examples]),
            "targets": torch.tensor([(self._pairs[i].score - low) / (high - low) for i in examples]),
        }

    def mini_batches(self, batch: Batch) -> list[Features]:
        features: list[Features] = batch["texts"]["features"]
        return features

    def embed(self, model: nn.Module, features: Features) -> Tensor:
        return dense_vectors(self._encoder, model, features)

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        vectors = torch.cat(list(embeddings))[batch["texts"]["order"]]
        return self._loss(vectors[batch["left"]], vectors[batch["right"]], batch["targets"])

    def write(self, examples: Sequence[int], folder: Path) -> Path:
        """The batch's pairs as tab-separated lines."""
        file = folder / "failed_batch.tsv"
        rows = [(pair.left, pair.right, f"{pair.score:g}") for pair in (self._pairs[i] for i in examples)]
        lines = ["\t".join(" ".join(column.split()) for column in row) + "\n" for row in rows]
        file.write_text("".join(lines), encoding="utf-8")
        return file

    def notes(self) -> tuple[str, ...]:
        notes = []
        if len(self) < self._asked_batch_size:
            notes.append(f"batch size {len(self)}: there are no more pairs")
        if self._scale != (0.0, 1.0):
            notes.append("scores from {:g} to {:g} were brought to 0 to 1".format(*self._scale))
        return tuple(notes)


def require_difference(pairs: JudgedPairs, where: str) -> None:
    """Raises DataError, which names ``where``, for pairs that cannot tell like from unlike."""
    if len({pair.score for pair in pairs}) > 1:
        return
    column = "label" if pairs and isinstance(pairs[0], LabelledPair) else "score"
    message = f"all {len(pairs)} {column}s are {pairs[0].score:g}" if len(pairs) > 1 else f"{len(pairs)} pair in all"
    raise DataError([Problem(where, None, column, message, f"add pairs with another {column}")])


def _scale(pairs: JudgedPairs) -> tuple[float, float]:
    """What becomes 0 and 1: these themselves where all scores are between them."""
    low, high = min(pair.score for pair in pairs), max(pair.score for pair in pairs)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
