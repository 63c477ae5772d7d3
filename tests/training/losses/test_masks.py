from __future__ import annotations

from functools import partial

import pytest
import torch

from bessemer.training.losses import info_nce, margin_masked

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
    found = margin_masked(NCE, margin)(QUERIES, PASSAGES, POSITIVES, NOTHING)
    assert found.item() == pytest.approx(NCE(QUERIES, PASSAGES, POSITIVES, torch.tensor(dropped)).item())


def test_masks_add_up() -> None:
    judged = torch.tensor([[False, False, True], [False, False, False]])
    found = margin_masked(NCE, 0.0)(QUERIES, PASSAGES, POSITIVES, judged)
    both = torch.tensor([[False, False, True], [False, False, True]])
    assert found.item() == pytest.approx(NCE(QUERIES, PASSAGES, POSITIVES, both).item())
