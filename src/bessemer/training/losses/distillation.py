"""Distillation of a teacher's scores: cross-entropy with soft targets."""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.training.losses.candidates import scores_of, teacher_weights


def distillation(
    queries: Tensor,
    passages: Tensor,
    positives: Tensor,
    excluded: Tensor,
    candidates: Tensor,
    teacher: Tensor,
    *,
    temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Mean over the batch of ``-sum_i w_i log softmax(s / temperature)_i`` over each query's candidates, with
    ``w = softmax(teacher / teacher_temperature)`` (Hinton et al. 2015, 1503.02531; of an LLM's judgement of passages:
    REPLUG, 2301.12652; LLM-Embedder, 2310.07554).

    queries     (B, d)  as the model gives them: normalised for cosine, raw for dot.
    passages    (P, d)  of the whole batch.
    candidates  (B, K)  rows of ``passages`` that the teacher scored for each query.
    teacher     (B, K)  its scores, in any unit; -inf where a query has fewer candidates.

    ``positives`` and ``excluded`` (as in ``info_nce``) have no part in it: the teacher alone judges, and the candidates
    alone compete. Up to a constant it is the Kullback-Leibler divergence. A query without scores adds 0.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        logits = scores_of(candidates, queries.float(), passages.float()) / temperature
        return of_candidates(logits, teacher, teacher_temperature)


def of_candidates(logits: Tensor, teacher: Tensor, teacher_temperature: float) -> Tensor:
    """The loss of ``distillation`` from the logits (B, K) of the candidates that ``teacher`` (B, K) has scored."""
    logits = logits.masked_fill(~torch.isfinite(teacher), float("-inf"))
    return soft_cross_entropy(logits, teacher_weights(teacher, teacher_temperature))


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of ``-sum_j targets_j log softmax(logits)_j``; a column at -inf adds nothing."""
    log_shares = logits.log_softmax(dim=1).masked_fill(torch.isneginf(logits), 0.0)
    return -(targets * log_shares).sum(dim=1).mean()
