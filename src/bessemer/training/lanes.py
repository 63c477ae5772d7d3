"""What a head trains of a model: the representations of its texts as one tensor per mini-batch, and their scores.

One tensor per mini-batch, a row per text, is what GradCache, sorting by length and several processes know how to
handle. A row may be longer than its text needs (several processes exchange rows of one length), with zeros at its end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.config.finetune import Head
from bessemer.encoders.encoder import OUTPUTS, Output
from bessemer.training.losses.flops import flops
from bessemer.training.losses.unified import Parts, unified_loss
from bessemer.training.mini_batches import Features

LANES: Mapping[Head, tuple[Output, ...]] = {"sparse": ("sparse",), "multi": ("multi_vector",), "unified": OUTPUTS}

Batch = dict[str, Any]


class Lanes(ABC):
    """Embeds, scores and judges the batches of one task. ``distils``: whether all teach each by now. ``flops_share``:
    how much of the weights of the FLOPS regulariser is in force by now. ``temperature``: of the scores."""

    def __init__(self, config: FinetuneConfig, *, normalised: bool) -> None:
        """``normalised``: whether the scores are cosines, or means of them."""
        self.outputs = LANES[config.trained_head]
        self.distils = config.self_distillation and not config.self_distillation_start
        self.flops_share = 1.0
        self.temperature = config.temperature_of(normalised=normalised)
        self._flops = {"query": config.flops_query or 0.0, "passage": config.flops_passage or 0.0}

    @abstractmethod
    def embed(self, features: Features) -> Tensor:
        """(n, anything) float32 of a mini-batch of n texts."""

    @abstractmethod
    def scores(self, embeddings: Sequence[Tensor], batch: Batch) -> dict[Output, Tensor]:
        """(B, P) of each lane that trains, in the batch's order, of the embeddings of all mini-batches."""

    @abstractmethod
    def sparse_rows(self, embeddings: Sequence[Tensor], features: Sequence[Features]) -> Tensor:
        """(n, U) the sparse weights of the texts of some mini-batches, in the columns in which they have any."""

    @property
    def has_flops(self) -> bool:
        return any(self._flops.values())

    def loss(self, scores: Mapping[Output, Tensor], batch: Batch) -> tuple[Tensor, Parts]:
        given = scores, batch["positives"], batch["excluded"], self.temperature
        return unified_loss(*given, self_distillation=self.distils)

    def regulariser(self, embeddings: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Parts]:
        """``flops_query`` times FLOPS of the batch's distinct queries plus ``flops_passage`` times that of its distinct
        passages, as far as they are in force; and both by name. 0 without any."""
        total, parts, start = torch.zeros((), device=batch["excluded"].device), Parts(), 0
        for side, texts in (("query", batch["queries"]), ("passage", batch["passages"])):
            features: Sequence[Features] = texts["features"]
            own, start = embeddings[start : start + len(features)], start + len(features)
            if weight := self._flops[side]:
                part = self.flops_share * weight * flops(self.sparse_rows(own, features))
                parts[f"loss_flops_{side}"] = part.detach()
                total = total + part
        return total, parts
