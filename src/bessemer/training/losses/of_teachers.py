"""Which loss learns from a teacher's scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.training.losses.distillation import distillation
from bessemer.training.losses.margin_mse import margin_mse
from bessemer.training.losses.masks import screened
from bessemer.training.losses.matryoshka import all_widths, matryoshka
from bessemer.training.losses.stable_distillation import stable_distillation

TeacherLoss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(queries (B, d), passages (P, d), positives (B,), excluded (B, P), candidates (B, K), teacher (B, K)) to a scalar."""


@dataclass(frozen=True)
class Calibration:
    """What is found of the training set once, before training. ``temperature``: of the teacher's scores; the spreads
    are root mean squares of margins."""

    temperature: float = 1.0
    teacher_spread: float = 1.0
    student_spread: float = 1.0


def _distillation(temperature: float, found: Calibration) -> TeacherLoss:
    return partial(distillation, temperature=temperature, teacher_temperature=found.temperature)


def _stable_distillation(temperature: float, found: Calibration) -> TeacherLoss:
    return partial(stable_distillation, temperature=temperature, teacher_temperature=found.temperature)


def _margin_mse(temperature: float, found: Calibration) -> TeacherLoss:
    return partial(margin_mse, student_spread=found.student_spread, teacher_spread=found.teacher_spread)


FOR_TEACHERS: dict[str, Callable[[float, Calibration], TeacherLoss]] = {
    "distillation": _distillation,
    "stable_distillation": _stable_distillation,
    "margin_mse": _margin_mse,
}


def teacher_loss(config: FinetuneConfig, found: Calibration, dimension: int, *, normalised: bool) -> TeacherLoss:
    """The loss of ``FOR_TEACHERS`` that ``config`` asks for. Raises ConfigError for widths that the model does not
    have."""
    loss = screened(FOR_TEACHERS[config.loss or ""](config.temperature_of(normalised=normalised), found), config)
    if not config.matryoshka_dims:
        return loss
    return matryoshka(loss, all_widths(config.matryoshka_dims, dimension), normalised=normalised)
