"""Stable distillation: each candidate against what the teacher ranks below it, and against the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.training.losses.candidates import scores_of, teacher_weights


def stable_distillation(
    queries: Tensor,
    passages: Tensor,
    positives: Tensor,
    excluded: Tensor,
    candidates: Tensor,
    teacher: Tensor,
    *,
    temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Mean over the batch of ``sum_i w_i -log(e_i / (e_i + sum_{j below i} e_j + sum_k e_k))`` with
    ``e = exp(s / temperature)`` and ``w = softmax(teacher / teacher_temperature)`` (LLM-Embedder, Zhang et al. 2023,
    2310.07554).

    Shapes as in ``distillation``. j runs over the candidates that the teacher scores strictly lower: ties are not below
    each other, and the order within a row is nothing. k runs over the batch's other passages, those excluded for the
    query (as in ``info_nce``) and its positive left out. A weight, however small, pulls its candidate up and never
    down against a better one: that is what is stable where most of the weight is on few. A query without scores adds 0.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        queries, passages = queries.float(), passages.float()
        logits = scores_of(candidates, queries, passages) / temperature
        is_candidate = torch.isfinite(teacher)
        is_below = (teacher[:, None, :] < teacher[:, :, None]) & is_candidate[:, None, :]  # (B, i, j)
        below = logits[:, None, :].expand_as(is_below).masked_fill(~is_below, float("-inf"))
        own = torch.zeros_like(excluded, dtype=torch.float32).scatter_add_(1, candidates, is_candidate.float()) > 0
        own |= F.one_hot(positives, num_classes=len(passages)).bool()
        in_batch = (queries @ passages.T / temperature).masked_fill(own | excluded, float("-inf")).logsumexp(dim=1)
        competing = [logits[:, :, None], below, in_batch[:, None, None].expand(-1, logits.shape[1], 1)]
        losses = torch.cat(competing, dim=2).logsumexp(dim=2) - logits
        return (teacher_weights(teacher, teacher_temperature) * losses).sum(dim=1).mean()
