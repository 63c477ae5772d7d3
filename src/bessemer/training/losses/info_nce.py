"""InfoNCE, the contrastive loss over in-batch and hard negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(
    queries: Tensor,
    passages: Tensor,
    positives: Tensor,
    excluded: Tensor,
    temperature: float,
    *,
    symmetric: bool = False,
    same_tower: bool = False,
) -> Tensor:
    """Mean over the batch of ``-log softmax(s(q_i, .) / temperature)[positive_i]`` (van den Oord 2018, 1807.03748).

    queries    (B, d)  as the model gives them: normalised for cosine, raw for dot.
    passages   (P, d)  positives and negatives of the whole batch; every row is a negative of every query that it is
                       not the positive of, unless excluded.
    positives  (B,)    row of ``passages`` that holds the positive of each query.
    excluded   (B, P)  True where a passage must not count as a negative of a query: false negatives by id, text or
                       qrels. The positive itself is never excluded, whatever the mask says.

    ``same_tower`` adds to the negatives of query i the other queries, and beside its positive the other passages
    compared with that positive (GTE, Li et al. 2023, 2308.03281); ``symmetric`` takes the mean with the direction from
    each positive to the queries. A query whose own positive answers query i counts as no negative in either.

    Returns a scalar. The softmax runs in float32 under autocast too: at temperature 0.02 a bf16 logit is off by 0.1.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        queries, passages = queries.float(), passages.float()
        logits = masked_logits(queries @ passages.T, positives, excluded, temperature)
        own = passages[positives]
        answered = excluded[:, positives] | (positives[:, None] == positives)  # (B, B): j's positive answers i
        columns = [logits]
        if same_tower:
            columns.append((queries @ queries.T / temperature).masked_fill(answered, float("-inf")))
            relevant = excluded | F.one_hot(positives, num_classes=len(passages)).bool()
            columns.append((own @ passages.T / temperature).masked_fill(relevant, float("-inf")))
        loss = F.cross_entropy(torch.cat(columns, dim=1), positives)
        if not symmetric:
            return loss
        itself = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
        reverse = (own @ queries.T / temperature).masked_fill(answered.T & ~itself, float("-inf"))
        return (loss + F.cross_entropy(reverse, torch.arange(len(queries), device=queries.device))) / 2


def masked_logits(scores: Tensor, positives: Tensor, excluded: Tensor, temperature: float) -> Tensor:
    """(B, P) scores over the temperature, -inf where a passage is excluded and is not the positive."""
    keep_positive = F.one_hot(positives, num_classes=scores.shape[1]).bool()
    return (scores / temperature).masked_fill(excluded & ~keep_positive, float("-inf"))
