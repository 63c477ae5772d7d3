"""Training several representations of one model, or one of its heads, as tasks of training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ConfigError
from bessemer.training.batches import TrainingData
from bessemer.training.distillation_task import DistillationTask
from bessemer.training.lanes import Lanes
from bessemer.training.losses.distillation import of_candidates
from bessemer.training.losses.unified import ensemble
from bessemer.training.mini_batches import Features
from bessemer.training.tasks import Batch, RetrievalTask


def lanes_of(encoder: DenseEncoder, config: FinetuneConfig) -> Lanes:
    """Raises ConfigError for a model without heads."""
    if not isinstance(encoder, UnifiedEncoder):
        raise ConfigError(f"--head {config.head}: {encoder.name} has no heads; `with_heads` gives it some")
    return Lanes(encoder, config)


class UnifiedTask(RetrievalTask):
    """Retrieval in which each lane scores every query with every passage of the batch (BGE-M3, 2402.03216). Batches,
    masks and hard negatives are those of dense training; negatives are mined anew by the dense vectors."""

    def __init__(self, data: TrainingData, encoder: DenseEncoder, config: FinetuneConfig, seed: int) -> None:
        """Raises DataError when no query has a relevant passage, ConfigError for a model without heads."""
        super().__init__(data, encoder, config, seed)
        self.lanes = lanes_of(self._encoder, data.settings or config)

    def embed(self, model: nn.Module, features: Features) -> Tensor:
        return self.lanes.embed(features)

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        loss, self.parts = self.lanes.loss(self.lanes.scores(embeddings, batch), batch)
        return loss


class UnifiedDistillationTask(DistillationTask):
    """As `DistillationTask`, the teacher's target set for the ensemble of the lanes (of one alone, for its scores):
    the teacher's cross-entropy, plus ``info_nce_weight`` times the unified loss."""

    def __init__(self, data: TrainingData, encoder: DenseEncoder, config: FinetuneConfig, seed: int) -> None:
        """Raises as DistillationTask, and ConfigError for a model without heads."""
        super().__init__(data, encoder, config, seed)
        settings = data.settings or config
        self.lanes = lanes_of(self._encoder, settings)
        self._temperature = settings.temperature

    def embed(self, model: nn.Module, features: Features) -> Tensor:
        return self.lanes.embed(features)

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        scores = self.lanes.scores(embeddings, batch)
        with torch.autocast(batch["excluded"].device.type, enabled=False):
            logits = ensemble(scores).gather(1, batch["candidates"]) / self._temperature
            of_teacher = of_candidates(logits, batch["teacher"], self._calibrated.temperature)
        loss, parts = self.lanes.loss(scores, batch)
        self.parts = {"loss_teacher": of_teacher.detach(), **parts}
        return of_teacher + self._info_nce_weight * loss
