"""Trainer callbacks: time and progress, the epoch of the draws, a stop on a loss that is no number."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from bessemer.errors import BessemerError
from bessemer.training.sampling import TaskBatches
from bessemer.training.tasks import RetrievalTask, Task

log = logging.getLogger("bessemer")


class TrainingClock(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Seconds of training proper, collating included; evaluation and saving are not counted.

    The checkpoint carries the count over a resume.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"seconds": self.seconds}}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    on_evaluate = on_save = on_train_begin

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now


class EpochDraws(TrainerCallback):  # type: ignore[misc]
    """Tells tasks and batches their epoch, which decides order and negatives; right after a resume in mid-epoch too."""

    def __init__(self, drawing: Sequence[Task | TaskBatches]) -> None:
        self._drawing = drawing

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for drawing in self._drawing:
            drawing.epoch = int(state.epoch or 0)


def not_finite(name: str, value: float, step: int, where: str = "") -> BessemerError:
    return BessemerError(
        f"the {name} is {value} at step {step}; lower --learning-rate or run without --bf16. Checkpoints before this "
        f"step are kept.{where}"
    )


class RefreshNegatives(TrainerCallback):  # type: ignore[misc]
    """Mines anew with the current weights every so many steps (ANCE, Xiong et al. 2021, 2007.00808): what was hard for
    the base model soon is not."""

    def __init__(self, tasks: Sequence[RetrievalTask], every: int) -> None:
        self._tasks, self._every = tasks, every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self._every == 0 and state.global_step < state.max_steps:
            for task in self._tasks:
                log.info("training: step %d, negatives mined anew, %s", state.global_step, task.mine())


class FiniteGradient(TrainerCallback):  # type: ignore[misc]
    """Stops on a gradient that is no number (the loss is looked at in every step). It is looked at before anything is
    evaluated or saved, so that no checkpoint holds spoilt weights, from which every resume would fail again."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        control.should_log = control.should_log or control.should_evaluate or control.should_save

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            raise not_finite("norm of the gradient", logs["grad_norm"], state.global_step)


class Progress(TrainerCallback):  # type: ignore[misc]
    """A bar with ETA on a terminal, a line now and then elsewhere."""

    SECONDS_BETWEEN_LINES = 30.0

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._begun = self._last_line = 0.0
        self._first_step = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._begun = self._last_line = time.monotonic()
        self._first_step = state.global_step
        if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last_line >= self.SECONDS_BETWEEN_LINES:
            self._last_line = now
            per_step = (now - self._begun) / (state.global_step - self._first_step)
            left = (state.max_steps - state.global_step) * per_step
            log.info("training: step %d of %d, at most %.0f s left", state.global_step, state.max_steps, left)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if self._bar is not None and "loss" in logs:
            self._bar.set_postfix(loss=f"{logs['loss']:.3f}")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **_: Any
    ) -> None:
        log.info(
            "training: step %d of %d, dev nDCG@10 %.4f", state.global_step, state.max_steps, metrics["eval_nDCG@10"]
        )

    def on_train_end(self, *_: Any, **__: Any) -> None:
        if self._bar is not None:
            self._bar.close()
