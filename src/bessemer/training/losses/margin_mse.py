"""Margin-MSE: the teacher's differences of scores, not its scores."""

from __future__ import annotations

import torch
from torch import Tensor

from bessemer.training.losses.candidates import scores_of


def margin_mse(
    queries: Tensor,
    passages: Tensor,
    positives: Tensor,
    excluded: Tensor,
    candidates: Tensor,
    teacher: Tensor,
    *,
    student_spread: float,
    teacher_spread: float,
) -> Tensor:
    """Mean over the batch of each query's mean over its candidates j, its positive left out, of

        ((s+ - s_j) / student_spread - (r+ - r_j) / teacher_spread)^2

    (Hofstätter et al. 2020, 2010.02666, where both spreads are 1). Shapes as in ``distillation``; the positive is among
    the candidates, s+ and r+ are its scores by the student and by the teacher.

    A cosine cannot follow the margins of a cross-encoder or of a log-likelihood, which are tens wide: each side is
    measured in units of its own spread, the root mean square of its margins over the training set, the student's before
    training (``training/margin_spread.py``). Both are constants. A scale fitted to each batch would let the loss fall
    by shrinking all margins; one fitted before training asks for the teacher's proportions at the width that the
    model's scores have, so that temperatures and thresholds go on to fit. No offset is fitted: a margin of 0 stays 0,
    and its sign is the teacher's. ``excluded`` has no part in it. A query without scores adds 0.
    """
    with torch.autocast(device_type=queries.device.type, enabled=False):
        scores = scores_of(candidates, queries.float(), passages.float())
        is_candidate = torch.isfinite(teacher)
        known = torch.where(is_candidate, teacher, 0.0)
        is_positive = (candidates == positives[:, None]) & is_candidate
        is_other = is_candidate & ~is_positive

        def margins(of: Tensor) -> Tensor:
            return (of * is_positive).sum(dim=1, keepdim=True) - of

        errors = margins(scores) / student_spread - margins(known) / teacher_spread
        squares = torch.where(is_other, errors.square(), 0.0)
        return (squares.sum(dim=1) / is_other.sum(dim=1).clamp(min=1)).mean()
