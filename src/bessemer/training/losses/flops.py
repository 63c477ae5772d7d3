"""What keeps sparse vectors sparse: the FLOPS regulariser."""

from __future__ import annotations

import torch
from torch import Tensor


def flops(weights: Tensor) -> Tensor:
    """sum_j (mean_i |w_ij|)^2 of ``weights`` (n, V), a scalar (Paria et al. 2020, 2004.05665; SPLADE, Formal et al.
    2021, 2109.10086).

    A smooth stand-in for the multiplications of a search, the sum over dimensions of the squared share of texts that
    use it: it pushes hardest where most texts have weight. Columns in which no text has any may be left out.
    """
    with torch.autocast(weights.device.type, enabled=False):
        return weights.float().abs().mean(dim=0).square().sum()
