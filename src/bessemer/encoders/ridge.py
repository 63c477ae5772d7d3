"""Ridge regression from sums over batches: closed form, float64. Light: numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PENALTY = 1e-3
"""On squared weights, in units of the mean variance of an input."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over n rows of inputs x (h,) and targets y: all that the fit takes."""

    n: int
    x: NDArray[np.float64]
    y: float
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]
    yy: float

    @staticmethod
    def of(inputs: NDArray[Any], targets: NDArray[Any]) -> Moments:
        """Of ``inputs`` (n, h) and ``targets`` (n,)."""
        x, y = inputs.astype(np.float64), targets.astype(np.float64)
        return Moments(len(y), x.sum(axis=0), float(y.sum()), x.T @ x, x.T @ y, float(y @ y))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.n + other.n,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
        )


@dataclass(frozen=True, slots=True)
class LinearFit:
    """y is about x . weights + bias; ``r_squared``: the share of the targets' variance that it explains."""

    weights: NDArray[np.float64]
    bias: float
    r_squared: float


def fit_ridge(moments: Moments) -> LinearFit:
    """The weights (h,) and the unpenalised bias that minimise squared error + penalty * squared weights."""
    n, x_mean, y_mean = moments.n, moments.x / moments.n, moments.y / moments.n
    covariance = moments.xx / n - np.outer(x_mean, x_mean)
    with_target = moments.xy / n - x_mean * y_mean
    variance = moments.yy / n - y_mean**2
    penalty = PENALTY * np.trace(covariance) / len(covariance) + np.finfo(np.float64).tiny
    weights = np.linalg.lstsq(covariance + penalty * np.eye(len(covariance)), with_target, rcond=None)[0]
    residual = variance - 2 * weights @ with_target + weights @ covariance @ weights
    r_squared = 1 - residual / variance if variance > 0 else 0.0
    return LinearFit(weights, float(y_mean - x_mean @ weights), float(r_squared))
