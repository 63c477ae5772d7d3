"""Cosines as the scores of pairs."""

from __future__ import annotations

import torch
from torch import Tensor


def cosine_regression(left: Tensor, right: Tensor, targets: Tensor) -> Tensor:
    """Mean of ``(cosine - y)^2`` (Sentence-BERT, Reimers and Gurevych 2019, 1908.10084; sentence-transformers'
    CosineSimilarityLoss).

    left, right  (n, d)  the two texts of each pair, of unit length.
    targets      (n,)    y from 0 (nothing in common) to 1 (the same): other scales are brought to it before.
    """
    with torch.autocast(device_type=left.device.type, enabled=False):
        cosines = (left.float() * right.float()).sum(dim=1)
        return (cosines - targets).square().mean()
