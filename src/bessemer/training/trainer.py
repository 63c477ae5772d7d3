"""``transformers.Trainer`` with our batches and loss: logging, checkpoints, schedules and devices are its own."""

from __future__ import annotations

import json
import logging
import math
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.training.batches import Examples, TrainingData
from bessemer.training.callbacks import (
    EpochDraws,
    FiniteGradient,
    Progress,
    RefreshNegatives,
    TrainingClock,
    not_finite,
)
from bessemer.training.checkpoints import NEGATIVES_FILE, read_negatives, write_negatives
from bessemer.training.dev_pool import MEASURE, DevPool, TaskPools
from bessemer.training.grad_cache import cached_backward
from bessemer.training.hardware import SAVE_TOTAL_LIMIT, whole_graph_tokens
from bessemer.training.sampling import Share, TaskBatches
from bessemer.training.tasks import Batch, RetrievalTask, Task

log = logging.getLogger("bessemer")

STATE_FILE = "trainer_state.json"
WEIGHTS_FILE = "model.safetensors"
LEARNING_RATE = 5e-5
STATIC_LEARNING_RATE = 1e-2
"""A table of token vectors has no layers to multiply a small step: it needs far larger ones (not swept yet)."""


class ContrastiveTrainer(Trainer):  # type: ignore[misc]
    """Trains the modules of ``encoder`` in place; evaluates on the dev pool with the encoder's own inference path."""

    def __init__(
        self,
        encoder: DenseEncoder,
        tasks: Sequence[Task],
        batches: TaskBatches,
        dev_pool: DevPool | None,
        config: FinetuneConfig,
        arguments: TrainingArguments,
    ) -> None:
        self._encoder = encoder
        self._dev_pool = dev_pool
        self.tasks = tasks
        self.batches = batches
        self._offsets = list(accumulate((len(task) for task in tasks), initial=0))
        mining = [task for task in tasks if isinstance(task, RetrievalTask) and task.miner is not None]
        self._mining = mining if config.refresh_steps else []
        self._was_halved = False
        self.best_scores: NDArray[np.float64] | None = None  # per dev query, of the best weights of this process
        callbacks = [TrainingClock(), EpochDraws([*tasks, batches]), FiniteGradient(), Progress()]
        if self._mining:
            every = count_of(config.refresh_steps, arguments.max_steps)
            callbacks.insert(0, RefreshNegatives(self._mining, every))  # its time is training's
        if dev_pool is not None:
            callbacks.append(EarlyStoppingCallback(config.early_stopping_patience))
        examples = Examples(self._offsets[-1])
        super().__init__(
            model=encoder.model,
            args=arguments,
            train_dataset=examples,
            eval_dataset=examples,  # asked for by the library, never read: `evaluate` has its own pool
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[int]:
        """Numbers of examples, in batches of one task. Each process draws its own part: nothing is dealt out again."""
        return DataLoader(
            Examples(self._offsets[-1]),
            batch_sampler=self.batches,
            collate_fn=lambda indices: {"indices": torch.tensor(indices)},
        )

    @property
    def seconds(self) -> float:
        """Of training proper, before a resume too (which puts a clock of its own in place of ours)."""
        return sum(clock.seconds for clock in self.callback_handler.callbacks if isinstance(clock, TrainingClock))

    def train_from(self, checkpoint: str | None) -> None:
        """Train from ``checkpoint`` (None: from the start) to the end, and take the best weights.

        A checkpoint may be the one with which training had ended (the kill came while weights were mixed, say). From
        it the library would go on for a step: its weights and state are taken as they are instead.
        """
        state = TrainerState.load_from_json(f"{checkpoint}/{STATE_FILE}") if checkpoint else None
        if checkpoint and self._mining:
            found = read_negatives(Path(checkpoint) / NEGATIVES_FILE)
            for task, negatives in zip(self._mining, found, strict=True):
                task.examples.take(negatives)
        if checkpoint is None or state is None or not _had_ended(state):
            self.train(resume_from_checkpoint=checkpoint)
            return
        self.state = state
        self._load_callback_state()
        best = Path(checkpoint).with_name(f"checkpoint-{state.best_global_step or state.global_step}")
        self._encoder.load_weights(load_file(best / WEIGHTS_FILE))

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **__: Any) -> Tensor:
        """One batch. It is made here and not by the data loader, which runs a batch ahead: so negatives mined anew at a
        step are those of the next one, after a resume as well."""
        task, examples = self._located(inputs["indices"].tolist())
        while True:
            try:
                loss = self.step_on(model, task, task.batch(examples), *arguments)
                break
            except torch.OutOfMemoryError:
                model.zero_grad()
                if not task.halve():
                    raise
                self._was_halved = True
        if not torch.isfinite(loss):
            file = task.write(examples, Path(self.args.output_dir).parent)
            raise not_finite("loss", float(loss), self.state.global_step + 1, f" The batch is in {file}.")
        return loss

    def _located(self, indices: Sequence[int]) -> tuple[Task, list[int]]:
        """The task of a batch, and its examples as the task numbers them."""
        position = bisect_right(self._offsets, indices[0]) - 1
        return self.tasks[position], [index - self._offsets[position] for index in indices]

    def step_on(self, model: nn.Module, task: Task, batch: Batch, *arguments: Any) -> Tensor:
        """Plain where the graphs of all mini-batches fit into memory; by GradCache, which is exact, where not."""
        if batch["n_tokens"] > whole_graph_tokens(self._encoder) or self._was_halved:
            model.train()
            return self._step_by_grad_cache(model, task, self._prepare_inputs(batch))
        loss: Tensor = super().training_step(model, {"task": task, **batch}, *arguments)
        return loss

    def _step_by_grad_cache(self, model: nn.Module, task: Task, batch: Batch) -> Tensor:
        with self.compute_loss_context_manager():
            return cached_backward(
                task.mini_batches(batch),
                lambda features: self._embed(model, features),
                lambda found: task.loss(found, batch),
                self.accelerator.backward,
            )

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        task: Task = inputs["task"]
        return task.loss([self._embed(model, features) for features in task.mini_batches(inputs)], inputs)

    def _embed(self, model: nn.Module, features: dict[str, Tensor]) -> Tensor:
        """Embeddings (n, d) of a mini-batch, as the encoder gives them: many cosine models have no module for it."""
        found = model(features)["sentence_embedding"].float()[:, : self._encoder.dimension]
        return F.normalize(found, dim=-1) if self._encoder.similarity == "cosine" else found

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """nDCG@10 on the dev pool."""
        assert self._dev_pool is not None, "evaluation is scheduled only with a dev pool"
        scores = self._dev_pool.scores(self._encoder)
        metrics = {f"eval_{MEASURE}": float(scores.mean())}
        if isinstance(self._dev_pool, TaskPools):
            metrics |= {f"eval_{MEASURE} {name}": mean for name, mean in self._dev_pool.by_task(scores).items()}
        if self.state.best_metric is None or metrics[f"eval_{MEASURE}"] > self.state.best_metric:
            self.best_scores = scores
        self.log(metrics)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Weights, and negatives where they change: the library would also pickle its arguments."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state_dict or self.model.state_dict(), folder / WEIGHTS_FILE, metadata={"format": "pt"})
        if self._mining:
            write_negatives([task.negatives for task in self._mining], folder / NEGATIVES_FILE)


def open_trainer(
    data: Sequence[TrainingData],
    encoder: DenseEncoder,
    dev_pool: DevPool | None,
    config: FinetuneConfig,
    seed: int,
    folder: Path,
) -> ContrastiveTrainer:
    """Ready to train ``encoder`` on ``data``, with checkpoints in ``folder``. Raises DataError, ConfigError."""
    tasks: list[Task] = [RetrievalTask(part, encoder, config, seed) for part in data]
    batches = TaskBatches([Share(len(task), task.batch_size) for task in tasks], config.sampling_alpha, seed)
    evaluate = dev_pool is not None
    arguments = training_arguments(config, len(batches), folder, encoder, seed=seed, evaluate=evaluate)
    return ContrastiveTrainer(encoder, tasks, batches, dev_pool, config, arguments)


def _had_ended(state: TrainerState) -> bool:
    return bool(state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"])


def training_arguments(
    config: FinetuneConfig, per_epoch: int, folder: Path, encoder: DenseEncoder, *, seed: int, evaluate: bool
) -> TrainingArguments:
    """Our configuration in Hugging Face's terms; shares of all steps become counts. ``per_epoch``: batches."""
    on_cpu = encoder.device == "cpu"
    total = config.max_steps if config.max_steps > 0 else max(1, round(per_epoch * config.num_train_epochs))
    every = count_of(config.eval_steps, total)
    arguments = TrainingArguments(
        output_dir=str(folder),
        learning_rate=config.learning_rate or (STATIC_LEARNING_RATE if encoder.is_static else LEARNING_RATE),
        max_steps=total,
        per_device_train_batch_size=config.per_device_train_batch_size,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        lr_scheduler_type=config.lr_scheduler_type,
        bf16=encoder.bf16 if config.bf16 is None else config.bf16,
        use_cpu=on_cpu,
        seed=seed,
        data_seed=seed,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=SAVE_TOTAL_LIMIT,
        load_best_model_at_end=evaluate,
        metric_for_best_model=MEASURE if evaluate else None,
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, total // 50),
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=False,  # batches are made on the device
        disable_tqdm=True,
        report_to="none",
    )
    arguments._n_gpu = 1  # one process drives one device: DataParallel would cut our batches apart
    return arguments


def count_of(steps: float, total: int) -> int:
    """A share of all steps, so that the last one ends with the run, or a count as it is."""
    return math.ceil(steps * total - 1e-9) if steps < 1 else int(steps)


def last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end: the trainer's state is its last file."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for checkpoint in checkpoints:
        try:
            json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return os.fspath(checkpoint)
    return None
