"""Cross-entropy on the score of a pair."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EVEN, SPREAD = 0.5, 0.2
"""The cosine of even odds, and how much more makes them e to 1. From cosine 0 to 1 p then goes nearly straight from
0.08 to 0.92: each grade has a cosine of its own. With 0.05 nearly all stand at one, and MiniLM lost on STS-B."""


def pair_cross_entropy(left: Tensor, right: Tensor, targets: Tensor) -> Tensor:
    """Mean of ``-y log p - (1 - y) log(1 - p)`` with ``p = sigmoid((cosine - 0.5) / 0.2)``.

    left, right  (n, d)  the two texts of each pair, of unit length.
    targets      (n,)    y: labels 0 and 1 (binary cross-entropy), or grades from 0 to 1 (soft cross-entropy, as in the
                         distillation of Hinton et al. 2015, 1503.02531).
    """
    with torch.autocast(device_type=left.device.type, enabled=False):
        cosines = (left.float() * right.float()).sum(dim=1)
        return F.binary_cross_entropy_with_logits((cosines - EVEN) / SPREAD, targets)
