"""CoSENT: pairs of texts in the order of their scores."""

from __future__ import annotations

import torch
from torch import Tensor


def cosent(left: Tensor, right: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """``log(1 + sum over y_i > y_j of exp((s_j - s_i) / temperature))`` (Huang et al. 2024, CoSENT,
    10.1109/TASLP.2024.3402087).

    left, right  (n, d)  the two texts of each pair, as the model gives them; s_i is their dot product: the cosine of
                         unit vectors.
    targets      (n,)    y: scores on any scale, or labels 0 and 1. Only their order counts: each pair of pairs whose
                         similarities stand in the wrong order costs, near ones cost a little.

    Returns a scalar, of the batch as a whole and not a mean; 0 where all targets are equal. Memory grows as n^2.
    """
    with torch.autocast(device_type=left.device.type, enabled=False):
        scores = (left.float() * right.float()).sum(dim=1) / temperature
        wrong = (scores[None, :] - scores[:, None])[targets[:, None] > targets[None, :]]
        return torch.cat([scores.new_zeros(1), wrong]).logsumexp(dim=0)
