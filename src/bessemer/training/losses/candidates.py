"""What losses that learn from a teacher share: its scores as weights, the student's scores of the same passages.

A query has candidates, passages of the batch that the teacher has scored for it. Queries may have different numbers of
them: ``candidates`` (B, K) holds rows of the batch's passages, ``teacher`` (B, K) the teacher's scores, -inf where a
query has fewer than K. A query that the teacher has not scored has -inf everywhere. The order within a row is nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def teacher_weights(teacher: Tensor, temperature: float) -> Tensor:
    """(B, K) ``softmax(teacher / temperature)`` of each row, 0 where there is no candidate."""
    logits = (teacher - teacher.amax(dim=1, keepdim=True)) / temperature  # no temperature is too low for float32
    return torch.where(torch.isfinite(teacher), logits.softmax(dim=1), 0.0)


def scores_of(candidates: Tensor, queries: Tensor, passages: Tensor) -> Tensor:
    """(B, K) the student's score of each candidate; where there is none, that of whatever stands there."""
    return (queries @ passages.T).gather(1, candidates)
