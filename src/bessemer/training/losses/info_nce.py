"""InfoNCE, the contrastive loss over in-batch and hard negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(queries: Tensor, passages: Tensor, positives: Tensor, excluded: Tensor, temperature: float) -> Tensor:
    """Mean over the batch of ``-log softmax(s(q_i, .) / temperature)[positive_i]`` (van den Oord 2018, 1807.03748).

    queries    (B, d)  as the model gives them: normalised for cosine, raw for dot.
    passages   (P, d)  positives and negatives of the whole batch; every row is a negative of every query that it is
                       not the positive of, unless excluded.
    positives  (B,)    row of ``passages`` that holds the positive of each query.
    excluded   (B, P)  True where a passage must not count as a negative of a query: false negatives by id, text or
                       qrels. The positive itself is never excluded, whatever the mask says.

    Returns a scalar. The softmax runs in float32 under autocast too: at temperature 0.02 a bf16 logit is off by 0.1.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        logits = queries.float() @ passages.float().T / temperature
    keep_positive = F.one_hot(positives, num_classes=passages.shape[0]).bool()
    logits = logits.masked_fill(excluded & ~keep_positive, float("-inf"))
    return F.cross_entropy(logits, positives)
