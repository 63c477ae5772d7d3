"""One model for several widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

BatchLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(queries (B, d), passages (P, d), positives (B,), excluded (B, P)) to a scalar."""


def matryoshka(loss: BatchLoss, dimensions: Sequence[int], *, normalised: bool) -> BatchLoss:
    """The mean of ``loss`` over the first ``dimensions`` of each vector (Kusupati et al. 2022, 2205.13147).

    ``normalised``: vectors have unit length at every width, as a cosine model is searched when it is cut.
    """

    def at_every_width(queries: Tensor, passages: Tensor, positives: Tensor, excluded: Tensor) -> Tensor:
        def cut(vectors: Tensor, width: int) -> Tensor:
            return F.normalize(vectors[:, :width], dim=-1) if normalised else vectors[:, :width]

        losses = [loss(cut(queries, width), cut(passages, width), positives, excluded) for width in dimensions]
        return torch.stack(losses).mean()

    return at_every_width
