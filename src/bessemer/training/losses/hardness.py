"""Hard-negative weighting with a correction for false negatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.training.losses.info_nce import masked_logits


def hardness_weighted(
    queries: Tensor,
    passages: Tensor,
    positives: Tensor,
    excluded: Tensor,
    temperature: float,
    *,
    beta: float,
    class_prior: float,
) -> Tensor:
    """Mean of ``-log(e^{s+/t} / (e^{s+/t} + N_g))`` (Robinson et al. 2021, 2010.04592).

    Shapes as in ``info_nce``. With N negatives of a query and prior c of drawing a false one,

        N_g = max((-N c e^{s+/t} + sum_j w_j e^{s_j/t}) / (1 - c), N e^{-1/t})
        w_j = e^{beta s_j} / mean_k e^{beta s_k}

    ``beta`` 0 weighs all negatives alike, ``class_prior`` 0 corrects nothing: both 0 are InfoNCE. All sums run in the
    log domain; a query without negatives adds 0. Scores are meant to be cosines: the floor assumes s >= -1.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        queries, passages = queries.float(), passages.float()
        logits = masked_logits(queries @ passages.T, positives, excluded, temperature)
        is_positive = F.one_hot(positives, num_classes=len(passages)).bool()
        positive = logits.gather(1, positives[:, None]).squeeze(1)
        negatives = logits.masked_fill(is_positive, float("-inf"))
        n = torch.isfinite(negatives).sum(dim=1)
        some = n > 0
        negatives, positive, n = negatives[some], positive[some], n[some].float()
        # log of w_j, up to masked entries: beta s_j - log mean e^{beta s}; beta s = beta t * logit
        scaled = torch.where(torch.isfinite(negatives), beta * temperature * negatives, float("-inf"))
        log_weights = scaled - (scaled.logsumexp(dim=1) - n.log())[:, None]
        of_negatives = torch.where(torch.isfinite(negatives), log_weights + negatives, float("-inf")).logsumexp(dim=1)
        floor = n.log() - 1 / temperature
        corrected = _log_difference(of_negatives, n.log() + math.log(class_prior) + positive if class_prior else None)
        group = torch.maximum(corrected - math.log1p(-class_prior), floor)
        losses = F.softplus(group - positive)
        return losses.sum() / len(queries)


def _log_difference(a: Tensor, b: Tensor | None) -> Tensor:
    """log(e^a - e^b), -inf (without a gradient) where that is not positive."""
    if b is None:
        return a
    larger = a > b
    gap = torch.where(larger, b - a, torch.full_like(a, -1.0))
    return torch.where(larger, a + torch.log(-torch.expm1(gap)), float("-inf"))
