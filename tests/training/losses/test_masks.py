from __future__ import annotations

from functools import partial

import pytest
import torch

from bessemer.config import FinetuneConfig
from bessemer.training.losses import Calibration, ScoreMargin, batch_loss, info_nce, margin_masked, teacher_loss

QUERIES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
PASSAGES = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
POSITIVES = torch.tensor([0, 1])
NOTHING = torch.zeros(2, 3, dtype=torch.bool)
NCE = partial(info_nce, temperature=0.5)


@pytest.mark.parametrize(
    ("margin", "dropped"),
    [
        (0.0, [[False, False, False], [False, False, True]]),  # 1.0 beats query 1's positive, 0.8
        (0.3, [[False, True, False], [True, False, True]]),  # limit 0.5: 0.6 is too near on both rows
        (-0.3, [[False, False, False], [False, False, False]]),  # limit 1.1
    ],
)
def test_what_scores_above_the_limit_is_no_negative(margin: float, dropped: list[list[bool]]) -> None:
    found = margin_masked(NCE, ScoreMargin(margin))(QUERIES, PASSAGES, POSITIVES, NOTHING)
    assert found.item() == pytest.approx(NCE(QUERIES, PASSAGES, POSITIVES, torch.tensor(dropped)).item())


def test_masks_add_up() -> None:
    judged = torch.tensor([[False, False, True], [False, False, False]])
    found = margin_masked(NCE, ScoreMargin(0.0))(QUERIES, PASSAGES, POSITIVES, judged)
    both = torch.tensor([[False, False, True], [False, False, True]])
    assert found.item() == pytest.approx(NCE(QUERIES, PASSAGES, POSITIVES, both).item())


@pytest.mark.parametrize(
    ("margin", "dropped"),
    [
        # Row 0: positive 0.5; half of it is 0.25. Row 1: positive -0.4, of which half is above it: the absolute margin.
        (ScoreMargin(0.0, 0.5), [[True, False, True], [False, False, True]]),
        (ScoreMargin(0.3, 0.5), [[True, False, True], [True, False, True]]),  # -0.7 on row 1, nothing else on row 0
        (ScoreMargin(0.3, 1.5), [[False, False, True], [True, False, True]]),  # 0.75
        (ScoreMargin(0.3), [[True, True, True], [True, False, True]]),  # 0.2 and -0.7
    ],
)
def test_a_share_of_the_positive_s_score_where_it_has_one(margin: ScoreMargin, dropped: list[list[bool]]) -> None:
    scores = torch.tensor([[0.6, 0.23, 0.8], [-0.5, -0.9, -0.1]])
    assert margin.exceeded(scores, torch.tensor([[0.5], [-0.4]])).tolist() == dropped


def test_losses_are_screened_by_the_share_that_is_asked_for() -> None:
    """0.7 times the positives 0.8: 0.6 of query 0 is above 0.56, of query 1 0.6 and 1 are."""
    config = FinetuneConfig(temperature=0.5, batch_relative_margin=0.7)
    found = batch_loss(config, 2, normalised=True)(QUERIES, PASSAGES, POSITIVES, NOTHING)
    dropped = torch.tensor([[False, True, False], [True, False, True]])
    assert found.item() == pytest.approx(NCE(QUERIES, PASSAGES, POSITIVES, dropped).item())

    candidates, teacher = torch.tensor([[0], [1]]), torch.zeros(2, 1)
    given = QUERIES, PASSAGES, POSITIVES
    stable = FinetuneConfig(loss="stable_distillation", temperature=0.5)
    plain, asked = (
        teacher_loss(stable.model_copy(update={"batch_relative_margin": share}), Calibration(), 2, normalised=True)
        for share in (None, 0.7)
    )
    found = asked(*given, NOTHING, candidates, teacher)
    assert found.item() == pytest.approx(plain(*given, dropped, candidates, teacher).item())
    assert found.item() != pytest.approx(plain(*given, NOTHING, candidates, teacher).item())
