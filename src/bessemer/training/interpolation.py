"""The forgetting guard: mixing tuned with base weights (LM-Cocktail, Xiao et al. 2023, 2311.13534)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bessemer.encoders.trainable import Trainable
from bessemer.training.dev_pool import DevPool

ALPHAS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the tuned weights that are tried: weights = alpha * tuned + (1 - alpha) * base."""


@dataclass(frozen=True)
class Candidate:
    alpha: float
    dev: float
    standard_error: float  # of the paired difference to the best candidate on dev
    general: float | None


@dataclass(frozen=True)
class Interpolation:
    """The chosen share, what was tried, and the base's own figures (alpha = 0)."""

    alpha: float
    base: Candidate
    candidates: tuple[Candidate, ...]
    reason: str


def mix(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Weights alpha * tuned + (1 - alpha) * base; buffers of integers are the tuned one's."""
    return {
        name: base[name].lerp(weight, alpha) if weight.is_floating_point() else weight for name, weight in tuned.items()
    }


def choose_alpha(
    encoder: Trainable,
    base: Mapping[str, Tensor],
    dev: DevPool,
    general: DevPool | None,
    margin: float,
    tuned_scores: NDArray[np.float64] | None = None,
) -> Interpolation:
    """Mix in place and return the choice: the smallest alpha within one standard error of the best on dev.

    The standard error is that of the paired difference to the best, per query or pair. Where a general set is given,
    alphas that lose more than ``margin`` nDCG@10 on it are out; when all do, the smallest stays, and the verdict will
    say so.
    ``tuned_scores``: the dev scores of the encoder as it is, where training has measured them.
    """
    tuned = encoder.copy_weights()
    general = general if general and len(general) else None
    on_dev, on_general = _known(dev), _known(general)
    if tuned_scores is not None:
        on_dev[1.0] = tuned_scores
    for alpha in (0.0, *ALPHAS):
        encoder.load_weights(mix(base, tuned, alpha))
        if alpha not in on_dev:
            on_dev[alpha] = dev.scores(encoder)
        if general and alpha not in on_general:
            on_general[alpha] = general.scores(encoder)
    best = max(ALPHAS, key=lambda alpha: (on_dev[alpha].mean(), -alpha))
    tried = {alpha: _candidate(alpha, on_dev[alpha], on_dev[best], on_general.get(alpha)) for alpha in (0.0, *ALPHAS)}
    keeps_general = [a for a in ALPHAS if _loss(tried[0.0], tried[a]) <= margin] or [min(ALPHAS)]
    best = max(keeps_general, key=lambda alpha: (on_dev[alpha].mean(), -alpha))
    close = [a for a in keeps_general if tried[best].dev - tried[a].dev <= _paired_error(on_dev[a], on_dev[best])]
    alpha = min(close)
    encoder.load_weights(mix(base, tuned, alpha))
    return Interpolation(alpha, tried[0.0], tuple(tried[a] for a in ALPHAS), _reason(alpha, best, keeps_general))


def _known(pool: DevPool | None) -> dict[float, NDArray[np.float64]]:
    """The scores of the base, alpha 0, where the pool has them."""
    return {} if pool is None or pool.base is None else {0.0: np.array(pool.base)}


def _candidate(
    alpha: float, dev: NDArray[np.float64], best: NDArray[np.float64], general: NDArray[np.float64] | None
) -> Candidate:
    return Candidate(
        alpha, float(dev.mean()), _paired_error(dev, best), None if general is None else float(general.mean())
    )


def _paired_error(values: NDArray[np.float64], best: NDArray[np.float64]) -> float:
    return float(np.std(best - values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _loss(base: Candidate, candidate: Candidate) -> float:
    return 0.0 if base.general is None or candidate.general is None else base.general - candidate.general


def _reason(alpha: float, best: float, keeps_general: list[float]) -> str:
    reason = f"best on dev: {best:g}; {alpha:g} is the smallest within one standard error of it"
    lost = [a for a in ALPHAS if a not in keeps_general]
    return reason + (
        f"; out for losing too much on the general set: {', '.join(f'{a:g}' for a in lost)}" if lost else ""
    )
