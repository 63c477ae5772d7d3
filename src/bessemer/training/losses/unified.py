"""The loss of a model with several representations: each learns by itself, all together, and from all together."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.encoders.encoder import Output
from bessemer.training.losses.distillation import soft_cross_entropy
from bessemer.training.losses.info_nce import masked_logits

ENSEMBLE: Mapping[Output, float] = MappingProxyType({"dense": 1.0, "sparse": 0.3, "multi_vector": 1.0})
"""What each lane's score counts in the ensemble's."""
LANE_LOSS: Mapping[Output, float] = MappingProxyType({"dense": 1.0, "sparse": 0.1, "multi_vector": 1.0})
"""What each lane's loss counts beside the ensemble's."""
Parts = dict[str, Tensor]
"""Losses by the names under which they are logged: ``loss_LANE``, ``loss_ensemble`` and ``loss_distilled_LANE``."""


def unified_loss(
    scores: Mapping[Output, Tensor], positives: Tensor, excluded: Tensor, temperature: float, *, self_distillation: bool
) -> tuple[Tensor, Parts]:
    """The loss and its parts (BGE-M3, Chen et al. 2024, 2402.03216).

    scores     lane -> (B, P)  of each query with each passage of the batch.
    positives  (B,)            column of each query's positive.
    excluded   (B, P)          True where a passage is no negative of a query, as in ``info_nce``.

    With L_x the InfoNCE of lane x on score / temperature, and s_ens = s_dense + 0.3 s_sparse + s_multi_vector,

        L  = (L_dense + 0.1 L_sparse + L_multi_vector + L_ens) / 4

    ``self_distillation`` teaches every lane what all of them know together: with p = softmax(s_ens / temperature)
    without a gradient, and L'_x the mean over the batch of -sum_j p_j log softmax(s_x / temperature)_j,

        L' = (L'_dense + 0.1 L'_sparse + L'_multi_vector) / 3,  and the loss is (L + L') / 2.

    An excluded passage is out of teacher and student alike. Of a single lane, the loss is its InfoNCE.
    """
    with torch.autocast(excluded.device.type, enabled=False):
        logits = {lane: masked_logits(of.float(), positives, excluded, temperature) for lane, of in scores.items()}
        own = {lane: F.cross_entropy(of, positives) for lane, of in logits.items()}
        parts: Parts = {f"loss_{lane}": loss.detach() for lane, loss in own.items()}
        if len(scores) == 1:
            return next(iter(own.values())), parts
        together = masked_logits(ensemble(scores), positives, excluded, temperature)
        of_all = F.cross_entropy(together, positives)
        parts["loss_ensemble"] = of_all.detach()
        loss = (_weighted(own) + of_all) / (len(own) + 1)
        if not self_distillation:
            return loss, parts
        distilled = {lane: soft_cross_entropy(of, together.detach().softmax(dim=1)) for lane, of in logits.items()}
        parts |= {f"loss_distilled_{lane}": loss.detach() for lane, loss in distilled.items()}
        return (loss + _weighted(distilled) / len(distilled)) / 2, parts


def ensemble(scores: Mapping[Output, Tensor]) -> Tensor:
    """The weighted sum of the lanes' scores; a lane alone is its own."""
    if len(scores) == 1:
        return next(iter(scores.values())).float()
    return torch.stack([ENSEMBLE[lane] * of.float() for lane, of in scores.items()]).sum(dim=0)


def _weighted(losses: Mapping[Output, Tensor]) -> Tensor:
    return torch.stack([LANE_LOSS[lane] * loss for lane, loss in losses.items()]).sum()
