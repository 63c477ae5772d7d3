"""Hard-negative mixing in embedding space."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.training.losses.info_nce import masked_logits

HARDEST = 16
"""The negatives of a query that are mixed: as many of its highest scores."""


def mochi(
    queries: Tensor,
    passages: Tensor,
    positives: Tensor,
    excluded: Tensor,
    temperature: float,
    *,
    n_synthetic: int,
    with_query: int,
) -> Tensor:
    """InfoNCE with synthetic negatives beside the real ones (MoCHi, Kalantidis et al. 2020, 2010.01028).

    Shapes as in ``info_nce``; for vectors of unit length. ``n_synthetic`` negatives per query are
    ``a n_i + (1 - a) n_j`` of two of its hardest, a uniform in (0, 1); ``with_query`` are ``b q + (1 - b) n_i``, b
    uniform in (0, 0.5), harder than any real one. All are brought to unit length. Gradients reach the query through the
    scores alone: what is mixed is taken as it is. Draws come from torch's generator. A query without negatives gets no
    synthetic ones.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        queries, passages = queries.float(), passages.float()
        logits = masked_logits(queries @ passages.T, positives, excluded, temperature)
        is_positive = F.one_hot(positives, num_classes=len(passages)).bool()
        hardness = logits.detach().masked_fill(is_positive, float("-inf"))
        scores, hardest = hardness.topk(min(HARDEST, len(passages)), dim=1)  # (B, h)
        real = torch.isfinite(scores).sum(dim=1)  # the first of each row
        some = real > 0
        synthetic = synthetic_negatives(
            queries.detach(), passages.detach()[hardest], real.clamp(min=1), n_synthetic, with_query
        )
        scores = torch.einsum("bd,bnd->bn", queries, synthetic) / temperature
        scores = scores.masked_fill(~some[:, None], float("-inf"))
        return F.cross_entropy(torch.cat([logits, scores], dim=1), positives)


def synthetic_negatives(queries: Tensor, hardest: Tensor, n_real: Tensor, n_synthetic: int, with_query: int) -> Tensor:
    """(B, n_synthetic + with_query, d) of unit length, from the first ``n_real[i]`` rows of ``hardest`` (B, h, d)."""
    size = (len(queries), n_synthetic)

    def drawn(n: int) -> Tensor:
        picks = (torch.rand(len(queries), n, device=queries.device) * n_real[:, None]).long()
        return hardest.gather(1, picks[:, :, None].expand(-1, -1, hardest.shape[2]))

    share = torch.rand(*size, 1, device=queries.device)
    between = share * drawn(n_synthetic) + (1 - share) * drawn(n_synthetic)
    share = torch.rand(len(queries), with_query, 1, device=queries.device) / 2
    towards = share * queries[:, None] + (1 - share) * drawn(with_query)
    return F.normalize(torch.cat([between, towards], dim=1), dim=-1)
