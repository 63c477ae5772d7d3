"""Which loss trains on pairs with scores or labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bessemer.config import FinetuneConfig
from bessemer.errors import ConfigError
from bessemer.training.losses.contrastive import contrastive, online_contrastive
from bessemer.training.losses.cosent import cosent
from bessemer.training.losses.cosine_regression import cosine_regression
from bessemer.training.losses.matryoshka import PairLoss, all_widths, matryoshka
from bessemer.training.losses.pair_cross_entropy import pair_cross_entropy

FOR_SCORES: dict[str, Callable[[FinetuneConfig, float], PairLoss]] = {
    "cosent": lambda _, temperature: partial(cosent, temperature=temperature),
    "cosine_regression": lambda *_: cosine_regression,
    "pair_cross_entropy": lambda *_: pair_cross_entropy,
}
FOR_LABELS: dict[str, Callable[[FinetuneConfig, float], PairLoss]] = {
    "contrastive": lambda config, _: partial(contrastive, margin=config.loss_margin),
    "online_contrastive": lambda config, _: partial(online_contrastive, margin=config.loss_margin),
    **FOR_SCORES,
}
"""Made from the configuration and the temperature. The first of each is the default."""


def pair_loss(config: FinetuneConfig, dimension: int, *, normalised: bool, labelled: bool) -> PairLoss:
    """The loss that ``config`` asks for, for pairs labelled 0 or 1 or else scored ones. Raises ConfigError for a name
    that is unknown or for other data, for widths that the model does not have, for dot products where cosines belong.
    """
    known, data = (FOR_LABELS, "labelled pairs") if labelled else (FOR_SCORES, "scored pairs")
    name = config.loss or next(iter(known))
    if name not in known:
        raise ConfigError(f"finetune.loss: `{name}` is no loss for {data}; one of: {', '.join(sorted(known))}")
    if name != "cosent" and not normalised:
        raise ConfigError(f"finetune.loss: `{name}` is for cosine models; this one has dot products, cosent takes them")
    loss = known[name](config, config.temperature_of(normalised=normalised))
    if not config.matryoshka_dims:
        return loss
    return matryoshka(loss, all_widths(config.matryoshka_dims, dimension), normalised=normalised)
