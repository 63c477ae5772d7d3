"""Training several representations of one model, or one that is not dense, as tasks of training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bessemer.config import FinetuneConfig
from bessemer.config.finetune import Head
from bessemer.encoders.multi_vector import MultiVectorEncoder
from bessemer.encoders.sparse import SparseEncoder
from bessemer.encoders.trainable import Trainable
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ConfigError
from bessemer.training.batches import TrainingData
from bessemer.training.distillation_task import DistillationTask
from bessemer.training.lanes import Lanes
from bessemer.training.losses.distillation import of_candidates
from bessemer.training.losses.unified import ensemble
from bessemer.training.mini_batches import Features
from bessemer.training.own_lanes import ColbertLanes, SpladeLanes
from bessemer.training.tasks import Batch, RetrievalTask
from bessemer.training.unified_lanes import UnifiedLanes


def lanes_of(encoder: Trainable, config: FinetuneConfig) -> Lanes:
    """Raises ConfigError for a model that has not what the head trains, and for options that do not go with it."""
    if isinstance(encoder, UnifiedEncoder):
        return UnifiedLanes(encoder, config)
    if not isinstance(encoder, SparseEncoder | MultiVectorEncoder):
        raise ConfigError(f"--head {config.trained_head}: {encoder.name} has no heads; `with_heads` gives it some")
    own: Head = "sparse" if isinstance(encoder, SparseEncoder) else "multi"
    if config.trained_head != own:
        raise ConfigError(f"--head {config.trained_head}: {encoder.name} has one of its own: give --head {own}")
    if config.freeze_encoder:
        raise ConfigError(f"--freeze-encoder: {encoder.name} has no head beside the encoder; leave it out")
    if config.refresh_steps:
        raise ConfigError(f"--refresh-steps: negatives are mined by dense vectors, which {encoder.name} does not give")
    encoder.require_trainable()
    return SpladeLanes(encoder, config) if isinstance(encoder, SparseEncoder) else ColbertLanes(encoder, config)


class UnifiedTask(RetrievalTask):
    """Retrieval in which each lane scores every query with every passage of the batch (BGE-M3, 2402.03216). Batches,
    masks and hard negatives are those of dense training; negatives are mined anew by the dense vectors."""

    def __init__(self, data: TrainingData, encoder: Trainable, config: FinetuneConfig, seed: int) -> None:
        """Raises DataError when no query has a relevant passage, ConfigError for a model without heads."""
        super().__init__(data, encoder, config, seed)
        self.lanes = lanes_of(self._encoder, data.settings or config)

    def embed(self, model: nn.Module, features: Features) -> Tensor:
        return self.lanes.embed(features)

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        loss, parts = self.lanes.loss(self.lanes.scores(embeddings, batch), batch)
        penalty, of_penalty = self.lanes.regulariser(embeddings, batch)
        self.parts = {**parts, **of_penalty}
        return loss + penalty


class UnifiedDistillationTask(DistillationTask):
    """As `DistillationTask`, the teacher's target set for the ensemble of the lanes (of one alone, for its scores):
    the teacher's cross-entropy, plus ``info_nce_weight`` times the unified loss."""

    def __init__(self, data: TrainingData, encoder: Trainable, config: FinetuneConfig, seed: int) -> None:
        """Raises as DistillationTask, and ConfigError for a model without heads."""
        super().__init__(data, encoder, config, seed)
        self.lanes = lanes_of(self._encoder, data.settings or config)

    def embed(self, model: nn.Module, features: Features) -> Tensor:
        return self.lanes.embed(features)

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        scores = self.lanes.scores(embeddings, batch)
        with torch.autocast(batch["excluded"].device.type, enabled=False):
            logits = ensemble(scores).gather(1, batch["candidates"]) / self.lanes.temperature
            of_teacher = of_candidates(logits, batch["teacher"], self._calibrated.temperature)
        loss, parts = self.lanes.loss(scores, batch)
        penalty, of_penalty = self.lanes.regulariser(embeddings, batch)
        self.parts = {"loss_teacher": of_teacher.detach(), **parts, **of_penalty}
        return of_teacher + self._info_nce_weight * loss + penalty
