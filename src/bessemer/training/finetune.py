"""Contrastive fine-tuning of a dense encoder, from judged pairs and mined negatives to a folder that loads anywhere."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.training.batches import TrainingData
from bessemer.training.cpu import fast_training
from bessemer.training.dev_pool import MEASURE, DevPool, EvaluationPool, TaskPools
from bessemer.training.hardware import peak_memory_bytes, require_room_for_checkpoints
from bessemer.training.interpolation import Interpolation, choose_alpha
from bessemer.training.trainer import ContrastiveTrainer, last_whole_checkpoint, open_trainer

log = logging.getLogger("bessemer")

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class TrainingReport:
    """What ``training.json`` holds. One example is one query, one positive and its negatives."""

    examples: int
    steps: int
    epochs: float
    seconds: float
    examples_per_second: float
    final_loss: float
    peak_memory_bytes: int
    token_waste: float  # padded over real tokens, less one
    learning_rate: float
    loss_curve: tuple[Mapping[str, float], ...]
    dev_curve: tuple[Mapping[str, float], ...]
    best_step: int
    stopped_early: bool
    dev_pool: str
    interpolation: Interpolation | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Tuned:
    """The model's folder (sentence-transformers layout) and how it came to be."""

    model: Path
    report: TrainingReport


@dataclass(frozen=True)
class Selection:
    """On what checkpoints and the interpolation share are chosen. ``margin``: nDCG@10 the general set may lose."""

    dev: DevPool
    general: EvaluationPool | None
    margin: float


def finetune(
    data: Sequence[TrainingData],
    encoder: DenseEncoder,
    selection: Selection | None,
    config: FinetuneConfig,
    seed: int,
    folder: Path,
) -> Tuned:
    """Fine-tune ``encoder`` and save it to ``folder/model``; resumes from ``folder/checkpoints``.

    ``data``: one part or several, which train together in batches of one part each. The encoder itself has its own
    weights again in the end, also after an error.

    With ``selection`` (and any query in its dev pool) the best checkpoint by dev nDCG@10 is kept, training stops early,
    and the weights are mixed with the base's; without, the last weights are saved. Raises DataError when no query has
    a relevant passage, BessemerError when the loss is no longer a number.
    """
    if selection and not selection.dev.queries:
        selection = None
    require_room_for_checkpoints(encoder, folder)
    checkpoints = folder / CHECKPOINTS
    trainer = open_trainer(data, encoder, selection.dev if selection else None, config, seed, checkpoints)
    base = encoder.copy_weights()
    interpolation = None
    try:
        with fast_training(encoder, bf16=trainer.args.bf16):
            trainer.train_from(last_whole_checkpoint(checkpoints))
        if selection and config.interpolation:
            interpolation = choose_alpha(
                encoder, base, selection.dev, selection.general, selection.margin, trainer.best_scores
            )
            log.info("interpolation: alpha %g (%s)", interpolation.alpha, interpolation.reason)
        encoder.save(folder / "model")
    finally:
        encoder.load_weights(base)
    return Tuned(folder / "model", _report(trainer, selection, interpolation))


def discard_checkpoints(tuned: Tuned) -> None:
    """Free what only a resume needs (optimizer state is twice the weights), once the step that made it is recorded."""
    shutil.rmtree(tuned.model.parent / CHECKPOINTS, ignore_errors=True)


def _report(
    trainer: ContrastiveTrainer, selection: Selection | None, interpolation: Interpolation | None
) -> TrainingReport:
    state, arguments = trainer.state, trainer.args
    losses = [{"step": entry["step"], "loss": entry["loss"]} for entry in state.log_history if "loss" in entry]
    dev = [_dev_point(entry) for entry in state.log_history if f"eval_{MEASURE}" in entry]
    if interpolation is not None:
        dev.insert(0, {"step": 0, MEASURE: interpolation.base.dev, **_base_by_task(selection)})
    seconds = trainer.seconds
    n_examples = trainer.batches.n_examples(state.global_step)
    n_tokens = sum(task.n_tokens for task in trainer.tasks)
    return TrainingReport(
        examples=n_examples,
        steps=state.global_step,
        epochs=float(state.epoch or 0.0),
        seconds=seconds,
        examples_per_second=n_examples / seconds if seconds else 0.0,
        final_loss=losses[-1]["loss"] if losses else float("nan"),
        peak_memory_bytes=peak_memory_bytes(),
        token_waste=sum(task.n_padded_tokens for task in trainer.tasks) / n_tokens - 1 if n_tokens else 0.0,
        learning_rate=arguments.learning_rate,
        loss_curve=tuple(losses),
        dev_curve=tuple(dev),
        best_step=state.best_global_step or state.global_step,
        stopped_early=state.global_step < state.max_steps,
        dev_pool=selection.dev.statement if selection else "no dev queries: the last weights were kept",
        interpolation=interpolation,
        notes=tuple(note for task in trainer.tasks for note in task.notes()),
    )


def _dev_point(entry: Mapping[str, float]) -> dict[str, float]:
    """The step with its figures: of all dev queries, and of each task where there are several."""
    figures = {name.removeprefix("eval_"): value for name, value in entry.items() if name.startswith(f"eval_{MEASURE}")}
    return {"step": entry["step"], **figures}


def _base_by_task(selection: Selection | None) -> dict[str, float]:
    if selection is None or not isinstance(selection.dev, TaskPools) or selection.dev.base is None:
        return {}
    by_task = selection.dev.by_task(np.array(selection.dev.base))
    return {f"{MEASURE} {name}": mean for name, mean in by_task.items()}
