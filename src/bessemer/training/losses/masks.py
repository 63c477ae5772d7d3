"""False negatives that only scores give away: the model's own, or a guide's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bessemer.config import FinetuneConfig


@dataclass(frozen=True)
class ScoreMargin:
    """Which passages score too near a query's positive, s+, to be its negatives: those above ``relative`` * s+, or,
    where that is None or s+ <= 0, of which no share means anything, those above s+ - ``absolute``.

    In-batch negatives get the screening that mined ones had (NV-Retriever, Moreira et al. 2024, 2407.15831).
    ``absolute`` 0 drops what beats the positive; below 0, what beats it by far (the self-guided case of GISTEmbed,
    Solatorio 2024, 2402.16829).
    """

    absolute: float = 0.0
    relative: float | None = None

    @classmethod
    def of(cls, config: FinetuneConfig) -> ScoreMargin:
        return cls(config.batch_margin or 0.0, config.batch_relative_margin)

    def exceeded(self, scores: Tensor, positive: Tensor) -> Tensor:
        """(B, P) True for scores (B, P) that are too near the positive's, (B, 1)."""
        limit = positive - self.absolute
        if self.relative is not None:
            limit = torch.where(positive > 0, self.relative * positive, limit)
        return scores > limit


def screened(loss: Callable[..., Tensor], config: FinetuneConfig) -> Callable[..., Tensor]:
    """``loss`` with the margin that ``config`` asks for; a guide has told the false negatives before."""
    return margin_masked(loss, ScoreMargin.of(config)) if config.screens_batches and config.guide is None else loss


def margin_masked(loss: Callable[..., Tensor], margin: ScoreMargin) -> Callable[..., Tensor]:
    """``loss``, a BatchLoss or a TeacherLoss, in which no passage of the batch counts as a negative that exceeds
    ``margin`` by the scores of the trained model. The mask carries no gradient."""

    def masked(queries: Tensor, passages: Tensor, positives: Tensor, excluded: Tensor, *rest: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(device_type=queries.device.type, enabled=False):
            scores = queries.float() @ passages.float().T
            near = margin.exceeded(scores, scores.gather(1, positives[:, None]))
        return loss(queries, passages, positives, excluded | near, *rest)

    return masked
