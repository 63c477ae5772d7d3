"""Trainer callbacks: time and progress, the epoch of the draws, what changes with the steps."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]
from tqdm.contrib.logging import logging_redirect_tqdm  # type: ignore[import-untyped]
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from bessemer.processes import Processes
from bessemer.training.checkpoints import NEGATIVES_FILE, read_negatives, write_negatives
from bessemer.training.lanes import Lanes
from bessemer.training.sampling import TaskBatches
from bessemer.training.tasks import RetrievalTask

log = logging.getLogger("bessemer")


class TrainingClock(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Seconds of training proper, collating included; evaluation and saving are not counted.

    The checkpoint carries the count over a resume.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = self._lap = 0.0

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"seconds": self.seconds}}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    on_evaluate = on_save = on_train_begin

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._lap += now - self._since
        self._since = now

    def lap(self) -> float:
        """Seconds of this process since this was asked last."""
        seconds, self._lap = self._lap, 0.0
        return seconds


class EpochOrder(TrainerCallback):  # type: ignore[misc]
    """Tells the batches their epoch, which decides their order; right after a resume in mid-epoch too."""

    def __init__(self, batches: TaskBatches) -> None:
        self._batches = batches

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._batches.epoch = int(state.epoch or 0)


class RefreshNegatives(TrainerCallback):  # type: ignore[misc]
    """Mines anew with the current weights every so many steps (ANCE, Xiong et al. 2021, 2007.00808): what was hard for
    the base model soon is not. The first process mines for all."""

    def __init__(self, tasks: Sequence[RetrievalTask], every: int, processes: Processes) -> None:
        self._tasks, self._every, self._processes = tasks, every, processes

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self._every or state.global_step >= state.max_steps:
            return
        file = Path(args.output_dir) / NEGATIVES_FILE
        for changed in self._processes.from_first(lambda: self._mine(file)):
            log.info("training: step %d, negatives mined anew, %s", state.global_step, changed)
        if not self._processes.is_first:
            for task, negatives in zip(self._tasks, read_negatives(file), strict=True):
                task.examples.take(negatives)

    def _mine(self, file: Path) -> list[str]:
        changed = [task.mine() for task in self._tasks]
        if self._processes.n > 1:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_negatives([task.negatives for task in self._tasks], file)
        return changed


class SelfDistillation(TrainerCallback):  # type: ignore[misc]
    """Lets all lanes together teach each from a step on (BGE-M3, 2402.03216): new heads have little to teach."""

    def __init__(self, lanes: Sequence[Lanes], start: int) -> None:
        self._lanes, self._start = lanes, start

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for lanes in self._lanes:
            lanes.distils = state.global_step >= self._start


class RisingFlops(TrainerCallback):  # type: ignore[misc]
    """Lets the weights of the FLOPS regulariser rise with the square of the step over the first third of training, as
    SPLADE does (2109.10086): sparse before it has learnt which words matter, a model stays empty."""

    def __init__(self, lanes: Sequence[Lanes]) -> None:
        self._lanes = lanes

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        n_rising = max(1, state.max_steps // 3)
        for lanes in self._lanes:
            lanes.flops_share = min(1.0, state.global_step / n_rising) ** 2


class LoggedWithCheckpoints(TrainerCallback):  # type: ignore[misc]
    """A log with every evaluation and every save: the last step is always in the curve."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        control.should_log = control.should_log or control.should_evaluate or control.should_save


class Progress(TrainerCallback):  # type: ignore[misc]
    """A bar with ETA on a terminal, a line now and then elsewhere; in 80 columns with loss, speed and padding."""

    SECONDS_BETWEEN_LINES = 30.0
    BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

    def __init__(self, measure: str) -> None:
        """``measure``: of the dev pool."""
        self._measure = measure
        self._bar: tqdm[Any] | None = None
        self._begun = self._last_line = 0.0
        self._first_step = 0
        self._figures = ""
        self._open = ExitStack()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._begun = self._last_line = time.monotonic()
        self._first_step = state.global_step
        if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
            self._bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc="training",
                bar_format=self.BAR,
                dynamic_ncols=True,
            )
            self._open.enter_context(self._bar)
            self._open.enter_context(logging_redirect_tqdm([log]))  # lines above the bar and not at its end

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last_line >= self.SECONDS_BETWEEN_LINES:
            self._last_line = now
            per_step = (now - self._begun) / (state.global_step - self._first_step)
            left = tqdm.format_interval((state.max_steps - state.global_step) * per_step)
            figures = f", {self._figures}" if self._figures else ""
            log.info("training: step %d of %d, at most %s left%s", state.global_step, state.max_steps, left, figures)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" in logs:
            waste, speed = logs["token_waste"], logs["examples_per_second"]
            self._figures = f"loss {logs['loss']:.3f}, {speed:.0f} ex/s, {waste:.0%} padding"
            if self._bar is not None:
                self._bar.set_postfix_str(self._figures)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **_: Any
    ) -> None:
        value = metrics[f"eval_{self._measure}"]
        log.info("training: step %d of %d, dev %s %.4f", state.global_step, state.max_steps, self._measure, value)

    def close(self) -> None:
        """After the end of training, or an error."""
        self._open.close()
