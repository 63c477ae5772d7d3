from __future__ import annotations

import numpy as np
import pytest

from bessemer.config import NegativesConfig
from bessemer.negatives.denoise import too_close

SCORES = [0.9, 0.8, 0.75, 0.7, 0.1, -0.3]


def dropped(positives: list[float], relative: float | None, absolute: float | None) -> tuple[list[float], str]:
    config = NegativesConfig(relative_margin=relative, absolute_margin=absolute)
    close, rule = too_close(np.array(SCORES, dtype=np.float32), np.array(positives, dtype=np.float32), config)
    return [score for score, is_close in zip(SCORES, close, strict=True) if is_close], rule


@pytest.mark.parametrize(
    ("positives", "relative", "absolute", "expected", "rule"),
    [
        ([0.8], 0.95, None, [0.9, 0.8], "relative margin"),  # limit 0.76
        ([0.95, 0.8], 0.95, None, [0.9, 0.8], "relative margin"),  # the lowest positive counts
        ([0.8], None, 0.08, [0.9, 0.8, 0.75], "absolute margin"),  # limit 0.72
        ([0.8], 0.95, 0.08, [0.9, 0.8, 0.75], "relative or absolute margin"),  # min(0.76, 0.72)
        ([0.8], 0.8, 0.08, [0.9, 0.8, 0.75, 0.7], "relative or absolute margin"),  # min(0.64, 0.72)
        ([0.8], None, None, [], "no margin"),
        # With s+ <= 0 a share of it would lie above it: the absolute margin serves, limit -0.1 - 0.3.
        ([-0.1], 0.95, 0.3, SCORES, "absolute margin"),
        ([-0.1], 0.95, 0.1, [0.9, 0.8, 0.75, 0.7, 0.1], "absolute margin"),  # limit -0.2
        ([0.0, 0.5], 0.95, None, [0.9, 0.8, 0.75, 0.7, 0.1], "above a positive with score <= 0"),
        ([-0.2], None, None, [], "no margin"),
    ],
)
def test_margins_by_hand(
    positives: list[float], relative: float | None, absolute: float | None, expected: list[float], rule: str
) -> None:
    assert dropped(positives, relative, absolute) == (expected, rule)


def test_a_score_at_the_limit_stays() -> None:
    close, _ = too_close(
        np.array([0.5, 0.51], dtype=np.float32), np.array([1.0], dtype=np.float32), NegativesConfig(relative_margin=0.5)
    )
    assert close.tolist() == [False, True]
