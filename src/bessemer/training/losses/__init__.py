"""Losses: one file each, with paper, shapes and an arithmetic test by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bessemer.config import FinetuneConfig
from bessemer.errors import ConfigError
from bessemer.training.losses.hardness import hardness_weighted
from bessemer.training.losses.info_nce import info_nce
from bessemer.training.losses.masks import margin_masked
from bessemer.training.losses.matryoshka import BatchLoss, matryoshka
from bessemer.training.losses.mochi import mochi

__all__ = ["LOSSES", "BatchLoss", "batch_loss", "hardness_weighted", "info_nce", "margin_masked", "matryoshka", "mochi"]


def _info_nce(config: FinetuneConfig) -> BatchLoss:
    return partial(
        info_nce, temperature=config.temperature, symmetric=config.symmetric, same_tower=config.same_tower_negatives
    )


def _hardness(config: FinetuneConfig) -> BatchLoss:
    prior = config.class_prior
    return partial(hardness_weighted, temperature=config.temperature, beta=config.hardness_beta, class_prior=prior)


def _mochi(config: FinetuneConfig) -> BatchLoss:
    synthetic, with_query = config.n_synthetic, config.n_synthetic_with_query
    return partial(mochi, temperature=config.temperature, n_synthetic=synthetic, with_query=with_query)


LOSSES: dict[str, Callable[[FinetuneConfig], BatchLoss]] = {
    "info_nce": _info_nce,
    "hardness": _hardness,
    "mochi": _mochi,
}


def batch_loss(config: FinetuneConfig, dimension: int, *, normalised: bool) -> BatchLoss:
    """The loss that ``config`` asks for. Raises ConfigError for an unknown name, widths that the model does not have,
    and options that the loss does not know."""
    if config.loss not in LOSSES:
        raise ConfigError(f"finetune.loss: unknown `{config.loss}`; one of: {', '.join(sorted(LOSSES))}")
    if config.loss != "info_nce" and (config.symmetric or config.same_tower_negatives):
        raise ConfigError(f"finetune.loss: `{config.loss}` has no symmetric or same_tower_negatives; info_nce has")
    if config.loss != "info_nce" and not normalised:
        raise ConfigError(f"finetune.loss: `{config.loss}` is for cosine models; this one has dot products")
    loss = LOSSES[config.loss](config)
    if config.batch_margin is not None:
        loss = margin_masked(loss, config.batch_margin)
    if not config.matryoshka_dims:
        return loss
    too_wide = [width for width in config.matryoshka_dims if not 0 < width <= dimension]
    if too_wide:
        raise ConfigError(f"finetune.matryoshka_dims: {too_wide} not within the model's {dimension} dimensions")
    widths = sorted({*config.matryoshka_dims, dimension}, reverse=True)
    return matryoshka(loss, widths, normalised=normalised)
