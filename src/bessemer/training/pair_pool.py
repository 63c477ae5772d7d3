"""The dev pool of pairs: Spearman's correlation, or average precision, as a mean over pairs.

Neither is a mean of values per pair. But each has an influence per pair: how fast the figure changes when that pair
gets more weight (Hampel 1974, 10.1080/01621459.1974.10482962). Influences have mean 0, and the standard error of their
mean is that of the figure (the infinitesimal jackknife). So figure + influence is a value per pair whose mean is the
figure, and the difference of two models' values has the standard error of the difference: all that choosing
checkpoints and the interpolation share asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bessemer.encoders.encoder import Encoder
from bessemer.encoders.similarity import pair_scores
from bessemer.formats.pairs import JudgedPairs, LabelledPair

Values = NDArray[np.float64]


@dataclass(frozen=True)
class PairPool:
    """Pairs with different scores, or with both labels. ``statement`` says in words where they come from."""

    pairs: JudgedPairs
    statement: str
    base: tuple[float, ...] | None = None

    @property
    def measure(self) -> str:
        return "AP" if isinstance(self.pairs[0], LabelledPair) else "Spearman"

    def __len__(self) -> int:
        return len(self.pairs)

    def by_task(self, scores: Values) -> dict[str, float]:
        return {}

    def scores(self, encoder: Encoder) -> Values:
        """(n,) per pair, figure + influence of the encoder's similarities."""
        found = pair_scores(encoder, [(pair.left, pair.right, pair.score) for pair in self.pairs])
        given = np.array([pair.score for pair in self.pairs])
        return average_precision_values(found, given > 0) if self.measure == "AP" else spearman_values(found, given)


def spearman_values(x: Values, y: Values) -> Values:
    """(n,) Spearman's correlation of ``x`` and ``y`` (n,) + influence of each pair; ties have mean ranks.

    With u and v the ranks as shares of n, less 1/2, and c = mean(u v), the influence on c of pair i is
    ``u_i v_i - 3c + mean_j h(x_i, x_j) v_j + mean_j h(y_i, y_j) u_j``, h 1 where j is greater, 1/2 where equal: its own
    product, and what it does to the ranks of all others. Variances are such means as well, of u u and v v. All zeros
    where a side is constant.
    """
    n = len(x)
    u, v = ((rankdata(side) - 0.5) / n - 0.5 for side in (x, y))
    c, var_u, var_v = (float(np.mean(product)) for product in (u * v, u * u, v * v))
    if not var_u or not var_v:
        return np.zeros(n)
    by_c = u * v - 3 * c + _mean_above(x, v) + _mean_above(y, u)
    by_u = u * u - 3 * var_u + 2 * _mean_above(x, u)
    by_v = v * v - 3 * var_v + 2 * _mean_above(y, v)
    correlation = c / np.sqrt(var_u * var_v)
    influence = by_c / np.sqrt(var_u * var_v) - correlation / 2 * (by_u / var_u + by_v / var_v)
    values: Values = correlation + influence
    return values


def _mean_above(x: Values, weights: Values) -> Values:
    """(n,) mean over all j of ``weights[j]`` where x_j > x_i, of half of it where x_j = x_i."""
    _, group = np.unique(x, return_inverse=True)
    sums = np.bincount(group, weights)
    above = sums[::-1].cumsum()[::-1] - sums / 2
    return np.asarray(above[group] / len(x))


def average_precision_values(scores: Values, labels: NDArray[np.bool_]) -> Values:
    """(n,) average precision + influence of each pair; equal scores share one threshold, both labels occur.

    With S_j the share of all pairs that score at least s_j, g_j the precision among them and p the share of positives,
    the influence of pair i is ``y_i (g_i - AP) / p + mean_j [s_j <= s_i] y_j (y_i - g_j) / S_j / p``: its own
    precision, and what it does to that of the positives below it.
    """
    n, y = len(scores), labels.astype(np.float64)
    _, group = np.unique(scores, return_inverse=True)
    at_least = np.bincount(group)[::-1].cumsum()[::-1][group] / n
    precision = np.bincount(group, y)[::-1].cumsum()[::-1][group] / n / at_least
    share = y.mean()
    figure = float((y * precision).mean() / share)

    def mean_below(weights: Values) -> Values:
        return np.asarray(np.bincount(group, weights).cumsum()[group] / n)

    by_others = y * mean_below(y / at_least) - mean_below(y * precision / at_least)
    values: Values = figure + (y * (precision - figure) + by_others) / share
    return values
