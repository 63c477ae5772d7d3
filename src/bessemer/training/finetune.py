"""Contrastive fine-tuning of an encoder, from judged pairs and mined negatives to a folder that loads anywhere."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.foreign import ForeignEncoder
from bessemer.encoders.trainable import Trainable
from bessemer.encoders.two_towers import TwoTowerEncoder, join_towers, untrainable
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.encoders.unified_settings import LaneWeights
from bessemer.encoders.widths import write_widths
from bessemer.errors import ConfigError
from bessemer.processes import Processes
from bessemer.training.adore import FrozenPool
from bessemer.training.batches import TrainingData
from bessemer.training.checkpoints import last_whole_checkpoint
from bessemer.training.cpu import fast_training
from bessemer.training.dev_pool import DevPool, ScoredByFirst
from bessemer.training.distributed import joined_processes
from bessemer.training.freezing import frozen_encoder
from bessemer.training.hardware import claim_checkpoints, peak_memory_bytes, require_room_for_checkpoints
from bessemer.training.interpolation import Interpolation, choose_alpha
from bessemer.training.lane_tuning import tuned_lanes
from bessemer.training.lora import lora
from bessemer.training.open_trainer import open_trainer
from bessemer.training.pair_task import PairData
from bessemer.training.recompute import gradient_checkpointing
from bessemer.training.tasks import Task
from bessemer.training.trainer import ContrastiveTrainer
from bessemer.workspace import in_all_processes

log = logging.getLogger("bessemer")

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class TrainingReport:
    """What ``training.json`` holds. One example is one query, one positive and its negatives, or one pair."""

    examples: int  # of all processes
    n_processes: int
    batch_size: int  # queries per step; of several tasks the largest
    trained_parameters: int
    steps: int
    epochs: float
    seconds: float
    examples_per_second: float
    final_loss: float
    peak_memory_bytes: int  # of the first process
    token_waste: float  # padded over real tokens, less one
    learning_rate: float
    loss_curve: tuple[Mapping[str, float], ...]
    dev_curve: tuple[Mapping[str, float], ...]
    dev_measure: str  # of dev_curve and of the interpolation; empty without dev queries
    best_step: int
    stopped_early: bool
    dev_pool: str
    interpolation: Interpolation | None
    notes: tuple[str, ...]
    lane_weights: Mapping[str, float] | None = None  # of --head unified, with what they do on dev


@dataclass(frozen=True)
class Tuned:
    """The model's folder (sentence-transformers layout) and how it came to be."""

    model: Path
    report: TrainingReport


@dataclass(frozen=True)
class Selection:
    """On what checkpoints and the interpolation share are chosen. ``margin``: nDCG@10 the general set may lose."""

    dev: DevPool
    general: DevPool | None
    margin: float

    def with_passages_of(self, frozen: DenseEncoder) -> Selection:
        """The same on passages that ``frozen`` encodes."""
        general = FrozenPool(self.general, frozen) if self.general else None
        return Selection(FrozenPool(self.dev, frozen), general, self.margin)

    def scored_by_first(self, processes: Processes) -> Selection:
        """The same for several processes."""
        general = ScoredByFirst(self.general, processes) if self.general else None
        return Selection(ScoredByFirst(self.dev, processes), general, self.margin)


@in_all_processes
def finetune(
    data: Sequence[TrainingData | PairData],
    encoder: Trainable,
    selection: Selection | None,
    config: FinetuneConfig,
    seed: int,
    folder: Path,
) -> Tuned:
    """Fine-tune ``encoder`` and save it to ``folder/model``; resumes from ``folder/checkpoints``.

    ``data``: one part or several, which train together in batches of one part each. The encoder itself has its own
    weights again in the end, also after an error.

    Several processes that `join_processes` joined train together, and the first one writes.

    With ``selection`` (and anything in its dev pool) the best checkpoint by the pool's measure is kept, training stops
    early, the weights are mixed with the base's, and the lane weights of a unified model are tuned; without, the last
    weights are saved. Raises DataError when no query has a relevant passage or all pairs the same score, BessemerError
    when the loss is no longer a number, ConfigError for a model of two towers, or for one with heads that is to become
    one.
    """
    if isinstance(encoder, TwoTowerEncoder):
        raise untrainable(encoder)
    if config.frozen_passages and isinstance(encoder, UnifiedEncoder):
        raise ConfigError(
            f"--frozen-passages: {encoder.name} has heads, which a model of two towers cannot keep; give the dense "
            "model that it was made from, or leave --frozen-passages out"
        )
    if selection and not len(selection.dev):
        selection = None
    pool = selection.dev if selection else None
    if pool and config.trained_head == "unified" and isinstance(encoder, UnifiedEncoder):
        # a lane that an earlier tuning left out has its say on this training's checkpoints, and in the tuning after it
        encoder = encoder.with_settings(lane_weights=encoder.lane_weights.without_zeros())
    if config.frozen_passages and len({part.task for part in data}) > 1:
        raise ConfigError("--frozen-passages: a model of two towers keeps the prompts of one task; train one at a time")
    if isinstance(encoder, ForeignEncoder):
        encoder.require_trainable()
    frozen = encoder.independent_copy() if config.frozen_passages and isinstance(encoder, DenseEncoder) else None
    if selection and frozen:
        selection = selection.with_passages_of(frozen)
    processes = joined_processes()
    if selection:
        selection = selection.scored_by_first(processes)
    dev, checkpoints = selection.dev if selection else None, folder / CHECKPOINTS
    base = encoder.copy_weights()
    interpolation = None
    try:
        with (
            frozen_encoder(encoder, config.freeze_encoder),
            lora(encoder, config, seed),
            gradient_checkpointing(encoder, config.gradient_checkpointing),
        ):
            with processes.first_ahead():
                require_room_for_checkpoints(encoder, folder, config.save_total_limit)
                claim_checkpoints(checkpoints)
            _settle_precision(encoder, data[0], processes)
            trainer = open_trainer(data, encoder, dev, config, seed, checkpoints)
            with fast_training(encoder, bf16=trainer.args.bf16):
                trainer.train_from(processes.from_first(lambda: last_whole_checkpoint(checkpoints)))
        if selection and config.interpolation:
            interpolation = choose_alpha(
                encoder, base, selection.dev, selection.general, selection.margin, trainer.best_scores
            )
            log.info("interpolation: alpha %g (%s)", interpolation.alpha, interpolation.reason)
        lane_weights = None
        if pool and config.trained_head == "unified" and isinstance(encoder, UnifiedEncoder):
            lane_weights = processes.from_first(lambda: tuned_lanes(encoder, pool).to_dict())
        processes.from_first(lambda: _save(_whole(encoder, frozen, lane_weights), folder / "model", config))
    finally:
        encoder.load_weights(base)
    return Tuned(folder / "model", replace(_report(trainer, selection, interpolation), lane_weights=lane_weights))


def _settle_precision(encoder: Trainable, data: TrainingData | PairData, processes: Processes) -> None:
    """Choose bf16 or fp32 as the first encoding would: a resumed run may not have encoded yet. One for all
    processes."""
    if isinstance(encoder, DenseEncoder):
        if isinstance(data, PairData):
            texts = [pair.left for pair in data.pairs]
        else:
            texts = [passage.indexed_text for passage in data.passages]
        encoder.settle_precision(texts, "passage")
        encoder.bf16 = processes.from_first(lambda: encoder.bf16)


def _save(whole: Trainable, folder: Path, config: FinetuneConfig) -> None:
    whole.save(folder)
    write_widths(folder, config.matryoshka_dims)


def _whole(encoder: Trainable, frozen: DenseEncoder | None, lane_weights: Mapping[str, float] | None) -> Trainable:
    """What is saved: the encoder with all that belongs to it."""
    if frozen and isinstance(encoder, DenseEncoder):
        return join_towers(encoder, frozen.model)
    if lane_weights and isinstance(encoder, UnifiedEncoder):
        return encoder.with_settings(lane_weights=LaneWeights(*(lane_weights[lane] for lane in LaneWeights._fields)))
    return encoder


def discard_checkpoints(tuned: Tuned) -> None:
    """Free what only a resume needs (optimizer state is twice the weights), once the step that made it is recorded."""
    shutil.rmtree(tuned.model.parent / CHECKPOINTS, ignore_errors=True)


def _report(
    trainer: ContrastiveTrainer, selection: Selection | None, interpolation: Interpolation | None
) -> TrainingReport:
    state, arguments = trainer.state, trainer.args
    losses = [_loss_point(entry) for entry in state.log_history if "loss" in entry]
    dev = [_dev_point(entry) for entry in state.log_history if f"eval_{trainer.measure}" in entry]
    if interpolation is not None:
        dev.insert(0, {"step": 0, trainer.measure: interpolation.base.dev, **_base_by_task(selection)})
    seconds = trainer.seconds
    n_examples = trainer.batches.n_examples(state.global_step)
    n_tokens = sum(task.pieces.n_tokens for task in trainer.tasks)
    return TrainingReport(
        examples=n_examples,
        n_processes=joined_processes().n,
        batch_size=max(task.batch_size for task in trainer.tasks),
        trained_parameters=trainer.n_trained,
        steps=state.global_step,
        epochs=float(state.epoch or 0.0),
        seconds=seconds,
        examples_per_second=n_examples / seconds if seconds else 0.0,
        final_loss=losses[-1]["loss"] if losses else float("nan"),
        peak_memory_bytes=peak_memory_bytes(),
        token_waste=sum(task.pieces.n_padded_tokens for task in trainer.tasks) / n_tokens - 1 if n_tokens else 0.0,
        learning_rate=arguments.learning_rate,
        loss_curve=tuple(losses),
        dev_curve=tuple(dev),
        dev_measure=trainer.measure,
        best_step=state.best_global_step or state.global_step,
        stopped_early=state.global_step < state.max_steps,
        dev_pool=selection.dev.statement if selection else "no dev queries or pairs: the last weights were kept",
        interpolation=interpolation,
        notes=tuple(note for task in trainer.tasks for note in _notes(task)),
    )


def _loss_point(entry: Mapping[str, float]) -> dict[str, float]:
    """The step with its loss, and the parts of it where it has any."""
    return {"step": entry["step"], **{name: value for name, value in entry.items() if name.split("_")[0] == "loss"}}


def _dev_point(entry: Mapping[str, float]) -> dict[str, float]:
    """The step with its figures: of all of dev, and of each task where there are several."""
    figures = {name.removeprefix("eval_"): value for name, value in entry.items() if name.startswith("eval_")}
    return {"step": entry["step"], **figures}


def _base_by_task(selection: Selection | None) -> dict[str, float]:
    if selection is None or selection.dev.base is None:
        return {}
    return selection.dev.by_task(np.array(selection.dev.base))


def _notes(task: Task) -> list[str]:
    """Of a task, by its name where it has one."""
    return [f"{task.name}: {note}".removeprefix(": ") for note in (*task.notes(), *task.pieces.notes())]
