"""How soft a teacher's scores are taken: the temperature at which it distinguishes as many candidates as it should."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bessemer.errors import ConfigError

log = logging.getLogger("bessemer")

Scores = Sequence[Sequence[float]]
"""Per query, the teacher's scores of its candidates: two or more."""

NEARLY_ONE = 1.1
"""Effective candidates below which a teacher is a label: 1.1 leaves about 2% of the weight to all but the best, and so
2% of the gradient to whatever the teacher knows of them."""
RANGE = 1e5
N_HALVINGS = 60


@dataclass(frozen=True)
class TeacherTemperature:
    """The ``value`` in use, ``asked`` for or found, with the ``effective`` candidates of the median query's
    ``candidates``."""

    value: float
    asked: bool
    effective: float
    candidates: float

    def notes(self) -> tuple[str, ...]:
        how = "as asked" if self.asked else "auto"
        found = f"teacher temperature {self.value:.4g} ({how}): the median query has {self.effective:.2f} effective "
        notes = [f"{found}candidates of {self.candidates:g}"]
        if self.effective < NEARLY_ONE:
            notes.append(
                f"the teacher is nearly one-hot (below {NEARLY_ONE} effective candidates): it tells little more than "
                "a label; raise --teacher-temperature, or set it to auto"
            )
        return tuple(notes)


def effective_candidates(scores: Scores, temperature: float) -> NDArray[np.float64]:
    """(n,) ``exp(entropy(softmax(scores / temperature)))`` of each query: 1 with all weight on one, at most their
    number."""
    return _effective(_padded(scores), temperature)


def settled_temperature(asked: float | Literal["auto"], target: float | None, scores: Scores) -> TeacherTemperature:
    """What is asked for; for ``auto``, the temperature at which the median of `effective_candidates` is ``target``, by
    bisection: it grows with the temperature.

    Without a target: the square root of the number of candidates, which is half the entropy of a teacher that does not
    care, midway between a label and nothing, however many they are. Where ties hold the median above the target, a
    temperature near 0 is what remains. Raises ConfigError for a target that the number of candidates does not allow.
    A teacher that is nearly one-hot is warned of.
    """
    padded = _padded(scores)
    n_candidates = np.array([len(own) for own in scores], dtype=np.float64)
    if asked == "auto":
        aim = float(np.median(np.sqrt(n_candidates))) if target is None else target
        value = _found(padded, aim)
    else:
        value = asked
    settled = TeacherTemperature(
        value, asked != "auto", float(np.median(_effective(padded, value))), float(np.median(n_candidates))
    )
    if settled.effective < NEARLY_ONE:
        log.warning(settled.notes()[-1])
    return settled


def _found(padded: NDArray[np.float64], aim: float) -> float:
    differences = np.ptp(np.where(np.isfinite(padded), padded, padded.max(axis=1, keepdims=True)), axis=1)
    unit = float(np.median(differences[differences > 0])) if differences.any() else 1.0
    low, high = unit / RANGE, unit * RANGE
    most = float(np.median(_effective(padded, high)))
    if aim > most:
        raise ConfigError(
            f"finetune.teacher_candidates: {aim:g} effective candidates are asked for, and the median query has "
            f"{most:.4g} at most; ask for fewer, or raise n_negatives"
        )
    for _ in range(N_HALVINGS):
        middle = (low * high) ** 0.5
        if np.median(_effective(padded, middle)) < aim:
            low = middle
        else:
            high = middle
    return high


def _padded(scores: Scores) -> NDArray[np.float64]:
    padded = np.full((len(scores), max(map(len, scores))), -np.inf)
    for row, own in zip(padded, scores, strict=True):
        row[: len(own)] = own
    return padded


def _effective(padded: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    logits = (padded - padded.max(axis=1, keepdims=True)) / temperature
    weights = np.exp(logits)
    total = weights.sum(axis=1)
    entropy = np.log(total) - (weights * np.where(np.isfinite(logits), logits, 0.0)).sum(axis=1) / total
    return np.asarray(np.exp(entropy))
