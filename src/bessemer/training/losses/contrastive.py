"""Contrastive losses of labelled pairs: together, or apart by a margin."""

from __future__ import annotations

import torch
from torch import Tensor


def contrastive(left: Tensor, right: Tensor, targets: Tensor, *, margin: float) -> Tensor:
    """Mean of ``(y d^2 + (1 - y) max(0, margin - d)^2) / 2``, d = 1 - cosine (Hadsell et al. 2006,
    10.1109/CVPR.2006.100).

    left, right  (n, d)  the two texts of each pair, of unit length.
    targets      (n,)    y: 1 where they belong together, 0 where not. Texts that do not are pushed apart until
                         their cosine is 1 - margin, and no further.
    """
    with torch.autocast(device_type=left.device.type, enabled=False):
        distances = _distances(left, right)
        apart = (margin - distances).relu().square()
        return (targets * distances.square() + (1 - targets) * apart).mean() / 2


def online_contrastive(left: Tensor, right: Tensor, targets: Tensor, *, margin: float) -> Tensor:
    """As ``contrastive``, over the hard pairs of the batch alone: positives farther apart than its nearest negative,
    negatives nearer than its farthest positive (sentence-transformers' OnlineContrastiveLoss).

    A sum, without the half. Where a batch has pairs of one label only, those beyond their own mean are the hard ones;
    a single pair is then none.
    """
    with torch.autocast(device_type=left.device.type, enabled=False):
        distances, together = _distances(left, right), targets > 0
        positives, negatives = distances[together], distances[~together]
        nearest = negatives.min() if len(negatives) else positives.mean()
        farthest = positives.max() if len(positives) else negatives.mean()
        far, near = positives[positives > nearest], negatives[negatives < farthest]
        return far.square().sum() + (margin - near).relu().square().sum()


def _distances(left: Tensor, right: Tensor) -> Tensor:
    return 1 - (left.float() * right.float()).sum(dim=1)
