"""Training once more on everything, with settings that were chosen and judged before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.encoders.widths import write_widths
from bessemer.training.batches import TrainingData
from bessemer.training.finetune import TrainingReport, Tuned, finetune
from bessemer.training.interpolation import mix


@dataclass(frozen=True)
class Chosen:
    """What the measured training settled on: steps per training example, the queries of a step, and the interpolation
    share."""

    steps_per_example: float
    batch_size: int
    alpha: float

    @classmethod
    def of(cls, report: TrainingReport, n_examples: int) -> Chosen:
        alpha = report.interpolation.alpha if report.interpolation else 1.0
        return cls(report.best_step / n_examples, report.batch_size, alpha)


def refit(
    data: Sequence[TrainingData],
    encoder: DenseEncoder,
    chosen: Chosen,
    config: FinetuneConfig,
    seed: int,
    trust_remote_code: str | None,
    folder: Path,
) -> Tuned:
    """Fine-tune on all judged queries for as many epochs as were best before, then mix by the share chosen before.

    ``trust_remote_code``: the revision whose code ``encoder`` runs. Nothing is selected here, so nothing is measured
    either: the verdict is the measured model's.
    """
    n_examples = sum(grade > 0 for part in data for grades in part.judged.qrels.values() for grade in grades.values())
    update: dict[str, object] = {"max_steps": max(1, round(chosen.steps_per_example * n_examples))}
    if config.per_device_train_batch_size == "auto":  # more examples might choose otherwise, and the steps are fixed
        update["per_device_train_batch_size"] = chosen.batch_size
    settings = config.model_copy(update=update)
    tuned = finetune(data, encoder, None, settings, seed, folder)
    base = encoder.copy_weights()
    saved = load_encoder(str(tuned.model), device=encoder.device, trust_remote_code=trust_remote_code)
    encoder.load_weights(mix(base, saved.copy_weights(), chosen.alpha))
    encoder.save(folder / "mixed")
    write_widths(folder / "mixed", config.matryoshka_dims)
    encoder.load_weights(base)
    return replace(tuned, model=folder / "mixed")
