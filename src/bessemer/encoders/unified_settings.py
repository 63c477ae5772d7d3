"""What a unified model is told beside its weights: how its lanes add up, and how much of each text is kept.
Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bessemer.encoders.token_vectors import Precision


class LaneWeights(NamedTuple):
    """Ensemble score = dense * s_dense + sparse * s_sparse + multi_vector * s_multi_vector. Default: those that BGE-M3
    is trained with (arXiv 2402.03216)."""

    dense: float = 1.0
    sparse: float = 0.3
    multi_vector: float = 1.0

    def without_zeros(self) -> LaneWeights:
        """With the default in place of each weight of 0, which no factor would bring back."""
        return LaneWeights(*(own or default for own, default in zip(self, LaneWeights(), strict=True)))


M3_WEIGHTS = LaneWeights()


@dataclass(frozen=True, slots=True)
class UnifiedSettings:
    """Saved with a unified model.

    ``top_weights``: the strongest sparse weights kept per text. ``multi_vector_precision``: in which token vectors
    are kept.
    """

    lane_weights: LaneWeights = M3_WEIGHTS
    top_weights: int = 256
    multi_vector_precision: Precision = "float16"
