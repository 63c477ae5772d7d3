"""Choosing weights on dev queries: few queries move little."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

FACTORS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""What a weight may be multiplied by, on a lane's scale of steps."""

Factors = tuple[float, ...]
Values = NDArray[np.float64]


def grid(n_weights: int) -> tuple[Factors, ...]:
    return tuple(product(FACTORS, repeat=n_weights))


def ratios(n_weights: int) -> tuple[Factors, ...]:
    """The grid of weights of which only ratios matter: each ratio once, by the factors nearest to 1."""
    nearest: dict[Factors, Factors] = {}
    for factors in sorted(grid(n_weights), key=_distance):
        if any(factors):
            nearest.setdefault(tuple(factor / max(factors) for factor in factors), factors)
    return tuple(nearest.values())


def near_the_default(measured: Mapping[Factors, Values]) -> tuple[Factors, Factors]:
    """(the factors to take, the best of all). ``measured``: the values per query, in one order, of every setting.

    Taken is what lies nearest to 1 in all weights, counted in steps along FACTORS, among those whose mean is within
    one standard error of the best (of the paired difference to it); among equals the better one.
    """
    best = max(measured, key=lambda factors: (measured[factors].mean(), -_distance(factors)))
    close = [factors for factors in measured if not is_better(measured[best], measured[factors])]
    chosen = min(close, key=lambda factors: (_distance(factors), -measured[factors].mean(), factors))
    return chosen, best


def is_better(values: Values, others: Values) -> bool:
    """By more than one standard error of the paired difference, which is 0 for one query."""
    difference = values - others
    error = np.std(difference, ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return bool(values.mean() - others.mean() > error)


def _distance(factors: Factors) -> int:
    return sum(abs(FACTORS.index(factor) - FACTORS.index(1.0)) for factor in factors)
