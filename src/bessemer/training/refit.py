"""Training once more on everything, with settings that were chosen and judged before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.training.batches import TrainingData
from bessemer.training.finetune import TrainingReport, Tuned, finetune
from bessemer.training.interpolation import mix


@dataclass(frozen=True)
class Chosen:
    """What the measured training settled on: steps per training example, and the interpolation share."""

    steps_per_example: float
    alpha: float

    @classmethod
    def of(cls, report: TrainingReport, n_examples: int) -> Chosen:
        return cls(report.best_step / n_examples, report.interpolation.alpha if report.interpolation else 1.0)


def refit(
    data: Sequence[TrainingData],
    encoder: DenseEncoder,
    chosen: Chosen,
    config: FinetuneConfig,
    seed: int,
    folder: Path,
) -> Tuned:
    """Fine-tune on all judged queries for as many epochs as were best before, then mix by the share chosen before.

    Nothing is selected here, so nothing is measured either: the verdict is the measured model's.
    """
    n_examples = sum(grade > 0 for part in data for grades in part.judged.qrels.values() for grade in grades.values())
    settings = config.model_copy(update={"max_steps": max(1, round(chosen.steps_per_example * n_examples))})
    tuned = finetune(data, encoder, None, settings, seed, folder)
    base = encoder.copy_weights()
    after = load_encoder(str(tuned.model), device=encoder.device).copy_weights()
    encoder.load_weights(mix(base, after, chosen.alpha))
    encoder.save(folder / "mixed")
    encoder.load_weights(base)
    return replace(tuned, model=folder / "mixed")
