"""What a training would refuse of its settings, found before anything is mined, encoded or paid for."""

from __future__ import annotations

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError
from bessemer.training.losses import FOR_TEACHERS, Calibration, batch_loss, pair_loss, teacher_loss
from bessemer.training.trackers import require_trackers

OF_QUERIES = (
    "symmetric", "same_tower_negatives", "screens_batches", "guide", "exclude_same_document", "refresh_steps",
)  # fmt: skip
"""Settings that need queries with passages."""


def require_settings(config: FinetuneConfig, encoder: Trainable) -> None:
    """For queries with passages. Raises ConfigError."""
    require_trackers(config.report_to)
    if config.trained_head != "dense" or not isinstance(encoder, DenseEncoder):
        return
    dimension, normalised = encoder.dimension, encoder.similarity == "cosine"
    if config.loss in FOR_TEACHERS:
        require_teachable(config)
        teacher_loss(config, Calibration(), dimension, normalised=normalised)
        config = config.model_copy(update={"loss": None})
    batch_loss(config, dimension, normalised=normalised)


def require_settings_of_pairs(config: FinetuneConfig, encoder: Trainable, *, labelled: bool, alone: bool) -> None:
    """For pairs with scores or, ``labelled``, labels; ``alone``: no task of queries is there that settings may be meant
    for. Raises ConfigError."""
    require_trackers(config.report_to)
    if config.trained_head != "dense" or not isinstance(encoder, DenseEncoder):
        raise ConfigError(
            f"--head {config.trained_head}: learns from queries with passages; pairs train dense vectors, leave it out"
        )
    if config.frozen_passages:
        raise ConfigError("finetune.frozen_passages: pairs have no query side, which it trains; leave it out")
    asked = [name for name in OF_QUERIES if getattr(config, name)] if alone else []
    if asked:
        named = ", ".join(asked).replace("screens_batches", "batch_margin, batch_relative_margin")
        raise ConfigError(f"finetune.{named}: for queries with passages; pairs have none, leave it out")
    pair_loss(config, encoder.dimension, normalised=encoder.similarity == "cosine", labelled=labelled)


def require_teachable(config: FinetuneConfig) -> None:
    """Raises ConfigError for settings that do not go with a loss that learns from a teacher."""
    if config.frozen_passages or config.refresh_steps:
        raise ConfigError(
            f"finetune.loss: `{config.loss}` learns from candidates that the teacher has scored, which new ones have "
            "not been; leave frozen_passages and refresh_steps out"
        )
    if not config.n_negatives:
        raise ConfigError(f"finetune.loss: `{config.loss}` compares candidates with the positive; set --n-negatives")
    if not config.info_nce_weight and (config.symmetric or config.same_tower_negatives):
        raise ConfigError("finetune.info_nce_weight: is 0, and symmetric and same_tower_negatives are InfoNCE's")
