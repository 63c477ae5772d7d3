"""A frozen model that tells false negatives of a batch (GISTEmbed, Solatorio 2024, 2402.16829)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bessemer.encoders.encoder import Encoder
from bessemer.errors import ArtifactError
from bessemer.training.batches import Row, TrainingSet
from bessemer.training.losses.masks import ScoreMargin


class Guide:
    """Scores queries and passages with its own prompts and similarity, each text encoded once per run: a batch then
    costs one product of small matrices."""

    def __init__(self, encoder: Encoder, training_set: TrainingSet, margin: ScoreMargin) -> None:
        """``margin``: what it says of the guide's scores tells false negatives."""
        self._encoder = encoder
        self._set = training_set
        self._margin = margin
        self._queries = _dense(encoder.encode_queries([query.searched_text for query in training_set.queries]).dense)
        self._row: dict[int, int] = {}  # of a passage in the matrix below
        self._passages = np.empty((0, self._queries.shape[1]), dtype=np.float32)

    def __call__(self, rows: Sequence[Row], passages: Sequence[int]) -> Tensor:
        """(B, P) True where the guide scores passage j too near row i's positive."""
        if any(p not in self._row for p in passages):
            self._encode(sorted({*self._set.used(), *passages} - self._row.keys()))
        queries = self._queries[[row.query for row in rows]]
        scores = torch.from_numpy(queries @ self._passages[[self._row[p] for p in passages]].T)
        column = {passage: j for j, passage in enumerate(passages)}
        positives = torch.tensor([column[row.positive] for row in rows])
        return self._margin.exceeded(scores, scores.gather(1, positives[:, None]))

    def _encode(self, passages: Sequence[int]) -> None:
        """All that can occur from now on: the first batch brings most, and each refresh of the negatives some."""
        texts = [self._set.passages[p].indexed_text for p in passages]
        found = _dense(self._encoder.encode_passages(texts).dense)
        self._row.update(zip(passages, range(len(self._row), len(self._row) + len(passages)), strict=True))
        self._passages = np.concatenate([self._passages, found])


def _dense(vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if vectors is None:
        raise ArtifactError("a guide needs dense vectors, which this encoder does not give")
    return vectors
