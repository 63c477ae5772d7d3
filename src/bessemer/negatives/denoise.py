"""Taking suspected false negatives out of a proposal, by margins in the mining model's own similarity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bessemer.config import NegativesConfig
from bessemer.negatives.candidates import Vectors


def too_close(scores: Vectors, positive_scores: Vectors, config: NegativesConfig) -> tuple[NDArray[np.bool_], str]:
    """Which candidates score too near the query's lowest positive to be trusted as negatives, and by which rule.

    ``scores`` (n,), ``positive_scores`` (m,), m >= 1. With a lowest positive <= 0 a relative margin has no meaning:
    the absolute one serves, and where none is set, a candidate above the positive is dropped.
    """
    lowest = float(positive_scores.min())
    if config.relative_margin is not None and lowest > 0:
        limit, rule = config.relative_margin * lowest, "relative margin"
    elif config.absolute_margin is not None:
        limit, rule = lowest - config.absolute_margin, "absolute margin"
    elif config.relative_margin is not None:
        limit, rule = lowest, "above a positive with score <= 0"
    else:
        return np.zeros(len(scores), dtype=np.bool_), "no margin"
    if config.relative_margin is not None and config.absolute_margin is not None and lowest > 0:
        limit, rule = min(limit, lowest - config.absolute_margin), "relative or absolute margin"
    return scores > limit, rule
