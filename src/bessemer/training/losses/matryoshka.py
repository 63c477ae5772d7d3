"""One model for several widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.errors import ConfigError

BatchLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(queries (B, d), passages (P, d), positives (B,), excluded (B, P)) to a scalar."""
PairLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(left (n, d), right (n, d), targets (n,)) to a scalar."""


def matryoshka(loss: Callable[..., Tensor], dimensions: Sequence[int], *, normalised: bool) -> Callable[..., Tensor]:
    """The mean of ``loss`` over the first ``dimensions`` of each vector (Kusupati et al. 2022, 2205.13147).

    ``loss`` takes two matrices of vectors first: a BatchLoss, PairLoss or TeacherLoss. ``normalised``: vectors have
    unit length at every width, as a cosine model is searched when it is cut.
    """

    def at_every_width(first: Tensor, second: Tensor, *rest: Tensor) -> Tensor:
        def cut(vectors: Tensor, width: int) -> Tensor:
            return F.normalize(vectors[:, :width], dim=-1) if normalised else vectors[:, :width]

        losses = [loss(cut(first, width), cut(second, width), *rest) for width in dimensions]
        return torch.stack(losses).mean()

    return at_every_width


def all_widths(asked: Sequence[int], dimension: int) -> list[int]:
    """Those asked for and the model's own, the widest first. Raises ConfigError for widths that it does not have."""
    too_wide = [width for width in asked if not 0 < width <= dimension]
    if too_wide:
        raise ConfigError(f"finetune.matryoshka_dims: {too_wide} not within the model's {dimension} dimensions")
    return sorted({*asked, dimension}, reverse=True)
