"""Triplet loss: a margin between the positive and the query's own hard negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def triplet(queries: Tensor, passages: Tensor, positives: Tensor, excluded: Tensor, *, margin: float) -> Tensor:
    """Mean of ``max(0, d(q, p+) - d(q, p-) + margin)`` over all triplets, d = 1 - cosine (Schroff et al. 2015,
    1503.03832).

    Shapes as in ``info_nce``, vectors of unit length. Every passage that is neither excluded nor the positive makes a
    triplet; the batches of a task with this loss exclude all but a query's own hard negatives, so that it is the
    TripletLoss of sentence-transformers with its cosine distance. A triplet whose margin is kept teaches nothing. A
    batch without any negative has loss 0.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        scores = queries.float() @ passages.float().T
        gaps = scores - scores.gather(1, positives[:, None]) + margin  # (B, P)
        is_negative = ~excluded & ~F.one_hot(positives, num_classes=len(passages)).bool()
        return torch.where(is_negative, gaps.relu(), 0.0).sum() / is_negative.sum().clamp(min=1)
