"""False negatives that only the model's own scores give away."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def margin_masked(loss: Callable[..., Tensor], margin: float) -> Callable[..., Tensor]:
    """``loss``, a BatchLoss or a TeacherLoss, in which no passage of the batch counts as a negative that scores above
    its query's positive less ``margin``.

    In-batch negatives get the screening that mined ones had. ``margin`` 0 drops what beats the positive; below 0, what
    beats it by far (the self-guided case of GISTEmbed, Solatorio 2024, 2402.16829). The mask carries no gradient.
    """

    def screened(queries: Tensor, passages: Tensor, positives: Tensor, excluded: Tensor, *rest: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(device_type=queries.device.type, enabled=False):
            scores = queries.float() @ passages.float().T
            limit = scores.gather(1, positives[:, None]) - margin
        return loss(queries, passages, positives, excluded | (scores > limit), *rest)

    return screened
