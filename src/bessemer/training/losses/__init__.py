"""Losses: one file each, with paper, shapes and an arithmetic test by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bessemer.config import FinetuneConfig
from bessemer.errors import ConfigError
from bessemer.training.losses.contrastive import contrastive, online_contrastive
from bessemer.training.losses.cosent import cosent
from bessemer.training.losses.cosine_regression import cosine_regression
from bessemer.training.losses.distillation import distillation
from bessemer.training.losses.hardness import hardness_weighted
from bessemer.training.losses.info_nce import info_nce
from bessemer.training.losses.margin_mse import margin_mse
from bessemer.training.losses.masks import ScoreMargin, margin_masked, screened
from bessemer.training.losses.matryoshka import BatchLoss, PairLoss, all_widths, matryoshka
from bessemer.training.losses.mochi import mochi
from bessemer.training.losses.of_pairs import pair_loss
from bessemer.training.losses.of_teachers import FOR_TEACHERS, Calibration, TeacherLoss, teacher_loss
from bessemer.training.losses.pair_cross_entropy import pair_cross_entropy
from bessemer.training.losses.stable_distillation import stable_distillation
from bessemer.training.losses.triplet import triplet

__all__ = [
    "FOR_TEACHERS",
    "LOSSES",
    "BatchLoss",
    "Calibration",
    "PairLoss",
    "ScoreMargin",
    "TeacherLoss",
    "batch_loss",
    "contrastive",
    "cosent",
    "cosine_regression",
    "distillation",
    "hardness_weighted",
    "info_nce",
    "margin_masked",
    "margin_mse",
    "matryoshka",
    "mochi",
    "online_contrastive",
    "pair_cross_entropy",
    "pair_loss",
    "stable_distillation",
    "teacher_loss",
    "triplet",
]


def _info_nce(config: FinetuneConfig, temperature: float) -> BatchLoss:
    return partial(
        info_nce, temperature=temperature, symmetric=config.symmetric, same_tower=config.same_tower_negatives
    )


def _hardness(config: FinetuneConfig, temperature: float) -> BatchLoss:
    prior = config.class_prior
    return partial(hardness_weighted, temperature=temperature, beta=config.hardness_beta, class_prior=prior)


def _mochi(config: FinetuneConfig, temperature: float) -> BatchLoss:
    synthetic, with_query = config.n_synthetic, config.n_synthetic_with_query
    return partial(mochi, temperature=temperature, n_synthetic=synthetic, with_query=with_query)


def _triplet(config: FinetuneConfig, temperature: float) -> BatchLoss:
    return partial(triplet, margin=config.loss_margin)


LOSSES: dict[str, Callable[[FinetuneConfig, float], BatchLoss]] = {
    "info_nce": _info_nce,
    "hardness": _hardness,
    "mochi": _mochi,
    "triplet": _triplet,
}
"""Of queries with passages, made from the configuration and the temperature; the first is the default. Those of pairs:
``of_pairs``; with teacher scores: ``of_teachers``."""


def batch_loss(config: FinetuneConfig, dimension: int, *, normalised: bool) -> BatchLoss:
    """The loss that ``config`` asks for. Raises ConfigError for a name that is unknown or for other data, widths that
    the model does not have, and options that the loss does not know."""
    name = config.loss or next(iter(LOSSES))
    if name not in LOSSES:
        known = ", ".join(sorted({*LOSSES, *FOR_TEACHERS}))
        raise ConfigError(f"finetune.loss: `{name}` is no loss for queries with passages; one of: {known}")
    if name != "info_nce" and (config.symmetric or config.same_tower_negatives):
        raise ConfigError(f"finetune.loss: `{name}` has no symmetric or same_tower_negatives; info_nce has")
    if name != "info_nce" and not normalised:
        raise ConfigError(f"finetune.loss: `{name}` is for cosine models; this one has dot products")
    loss = screened(LOSSES[name](config, config.temperature_of(normalised=normalised)), config)
    if not config.matryoshka_dims:
        return loss
    return matryoshka(loss, all_widths(config.matryoshka_dims, dimension), normalised=normalised)
