"""``transformers.Trainer`` with our batches and loss: logging, checkpoints, schedules and devices are its own."""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from bessemer.config import FinetuneConfig
from bessemer.encoders.runtime import is_out_of_memory
from bessemer.encoders.sparse import SparseEncoder
from bessemer.encoders.trainable import Trainable
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ArtifactError, BessemerError, ConfigError
from bessemer.training import shares
from bessemer.training.arguments import count_of
from bessemer.training.batches import Examples
from bessemer.training.callbacks import (
    EpochOrder,
    LoggedWithCheckpoints,
    Progress,
    RefreshNegatives,
    RisingFlops,
    SelfDistillation,
    TrainingClock,
)
from bessemer.training.checkpoints import NEGATIVES_FILE, STATE_FILE, read_negatives, write_negatives
from bessemer.training.dev_pool import DevPool
from bessemer.training.distributed import joined_processes
from bessemer.training.grad_cache import cached_backward
from bessemer.training.hardware import whole_graph_tokens
from bessemer.training.lora import merged
from bessemer.training.mini_batches import Features
from bessemer.training.sampling import TaskBatches
from bessemer.training.tasks import Batch, RetrievalTask, Task
from bessemer.training.trackers import open_trackers
from bessemer.training.unified_task import UnifiedDistillationTask, UnifiedTask

log = logging.getLogger("bessemer")

WEIGHTS_FILE = "model.safetensors"


class ContrastiveTrainer(Trainer):  # type: ignore[misc]
    """Trains the modules of ``encoder`` in place; evaluates on the dev pool with the encoder's own inference path."""

    def __init__(
        self,
        encoder: Trainable,
        tasks: Sequence[Task],
        batches: TaskBatches,
        dev_pool: DevPool | None,
        config: FinetuneConfig,
        arguments: TrainingArguments,
    ) -> None:
        self._encoder = encoder
        self._processes = joined_processes()
        self._dev_pool = dev_pool
        self.measure = dev_pool.measure if dev_pool is not None else ""
        self.tasks = tasks
        self.batches = batches
        self._offsets = list(accumulate((len(task) for task in tasks), initial=0))
        mining = [task for task in tasks if isinstance(task, RetrievalTask) and task.miner is not None]
        self._mining = mining if config.refresh_steps else []
        self._was_halved = False
        self._n_examples = 0  # trained on in this process
        self._parts: dict[str, list[Tensor]] = defaultdict(list)  # of the losses since the last log
        self._logged = (0, 0, 0)  # what `_counts` was at the last log
        self.best_scores: NDArray[np.float64] | None = None  # per dev query, of the best weights of this process
        self._progress = Progress(self.measure)
        trackers = open_trackers(config.report_to, Path(arguments.output_dir).parent)
        callbacks = [TrainingClock(), EpochOrder(batches), LoggedWithCheckpoints(), self._progress, *trackers]
        if self._mining:
            every = count_of(config.refresh_steps, arguments.max_steps)
            callbacks.insert(0, RefreshNegatives(self._mining, every, self._processes))  # its time is training's
        unified = [task.lanes for task in tasks if isinstance(task, UnifiedTask | UnifiedDistillationTask)]
        if unified and config.self_distillation:
            callbacks.append(SelfDistillation(unified, count_of(config.self_distillation_start, arguments.max_steps)))
        if any(lanes.has_flops for lanes in unified):
            callbacks.append(RisingFlops(unified))
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
        self.n_trained: int = self.get_num_trainable_parameters()
        # Mixed precision and nothing more: gradients are summed by us, which DistributedDataParallel would average.
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)
        torch.manual_seed(arguments.seed + self._processes.rank)  # dropout drops other units in other processes

    def get_train_dataloader(self) -> DataLoader[int]:
        """Numbers of examples, in batches of one task. Every process gets all of them: they share out the texts."""
        return DataLoader(
            Examples(self._offsets[-1]),
            batch_sampler=self.batches,
            collate_fn=lambda indices: {"indices": torch.tensor(indices)},
        )

    @property
    def seconds(self) -> float:
        """Of training proper, before a resume too (which puts a clock of its own in place of ours)."""
        return sum(clock.seconds for clock in self._clocks)

    @property
    def _clocks(self) -> list[TrainingClock]:
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, TrainingClock)]

    def train_from(self, checkpoint: str | None) -> None:
        """Train from ``checkpoint`` (None: from the start) to the end, and take the best weights.

        A checkpoint may be the one with which training had ended (the kill came while weights were mixed, say). From
        it the library would go on for a step: its weights and state are taken as they are instead.
        """
        state = TrainerState.load_from_json(f"{checkpoint}/{STATE_FILE}") if checkpoint else None
        if state and state.train_batch_size and state.train_batch_size != self.args.per_device_train_batch_size:
            raise ConfigError(
                f"{checkpoint}: made with batches of {state.train_batch_size}, where `auto` gives "
                f"{self.args.per_device_train_batch_size} now; go on with the device and the processes that it began "
                "with, or delete its folder to begin anew"
            )
        if checkpoint and self._mining:
            found = read_negatives(Path(checkpoint) / NEGATIVES_FILE)
            for task, negatives in zip(self._mining, found, strict=True):
                task.examples.take(negatives)
        if checkpoint is None or state is None or not _had_ended(state):
            try:
                self.train(resume_from_checkpoint=checkpoint)
            finally:
                self._progress.close()
            return
        self.state = state
        self._load_callback_state()
        best = Path(checkpoint).with_name(f"checkpoint-{state.best_global_step or state.global_step}")
        self._load_from_checkpoint(str(best))

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **__: Any) -> Tensor:
        """One batch. It is made here and not by the data loader, which runs a batch ahead: so negatives mined anew at a
        step are those of the next one, after a resume as well."""
        task, examples = self._located(inputs["indices"].tolist())
        while True:
            try:
                loss = self.step_on(model, task, task.batch(examples), *arguments)
                gradients = shares.flat_gradients(model, self._processes)
                shares.all_well(self._encoder.device, self._processes)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if not isinstance(error, shares.OutOfMemoryElsewhere):
                    shares.out_of_memory(self._encoder.device, self._processes)
                model.zero_grad()
                if not task.pieces.halve():
                    message = f"out of memory even with mini-batches of {task.pieces.budget} tokens"
                    raise BessemerError(f"{message}; give a smaller --max-length or batch, or more memory") from error
                self._was_halved = True
        self._batch = task, examples
        if not torch.isfinite(loss):
            raise self._not_finite("loss", float(loss))
        shares.sum_gradients(model, gradients)
        self._n_examples += len(examples)
        for name, part in task.parts.items():
            self._parts[name].append(part)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float:
        """Looked at before the weights take the step, so that no checkpoint holds spoilt ones, from which every resume
        would fail again.

        In fp16 the loss is scaled up by as much as the gradient bears: where it was too much, the scaler leaves the
        step out and halves the scale, as it does in the first steps of most runs. But a gradient that is no number
        even at a scale of 1 never will be one.
        """
        norm: Tensor | float = super()._get_grad_norm(model, grad_norm)
        scaler = getattr(self.accelerator, "scaler", None)
        will_be_left_out = scaler is not None and scaler.get_scale() > 1
        if not math.isfinite(float(norm)) and not will_be_left_out:
            raise self._not_finite("norm of the gradient", float(norm))
        return norm

    def _not_finite(self, name: str, value: float) -> BessemerError:
        """With the batch at hand in a file."""
        task, examples = self._batch
        folder = Path(self.args.output_dir).parent
        where = f" The batch is in {task.write(examples, folder)}." if self._processes.is_first else ""
        return BessemerError(
            f"the {name} is {value} at step {self.state.global_step + 1}; lower --learning-rate or run without --bf16 "
            f"or --fp16. Checkpoints before this step are kept.{where}"
        )

    def _located(self, numbers: Sequence[int]) -> tuple[Task, list[int]]:
        """The task of a batch, told which turn of its examples this is, and the examples as the task numbers them."""
        turn, first = divmod(numbers[0], self._offsets[-1])
        position = bisect_right(self._offsets, first) - 1
        task, start = self.tasks[position], turn * self._offsets[-1] + self._offsets[position]
        task.turn = turn
        return task, [number - start for number in numbers]

    def step_on(self, model: nn.Module, task: Task, batch: Batch, *arguments: Any) -> Tensor:
        """Plain where the graphs of all mini-batches fit into memory; by GradCache, which is exact, where not."""
        own_tokens = batch["n_tokens"] / self._processes.n
        if own_tokens > whole_graph_tokens(self._encoder) or self._was_halved:
            model.train()
            return self._step_by_grad_cache(model, task, self._prepare_inputs(batch))
        loss: Tensor = super().training_step(model, {"task": task, **batch}, *arguments)
        return loss

    def _step_by_grad_cache(self, model: nn.Module, task: Task, batch: Batch) -> Tensor:
        mini_batches = task.mini_batches(batch)
        with self.compute_loss_context_manager():
            return cached_backward(
                shares.own_share(mini_batches, self._processes),
                lambda features: self._embed(task, model, features),
                lambda own: self._loss_of(task, own, mini_batches, batch),
                self.accelerator.backward,
            )

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        task: Task = inputs["task"]
        mini_batches = task.mini_batches(inputs)
        own = [self._embed(task, model, features) for features in shares.own_share(mini_batches, self._processes)]
        return self._loss_of(task, own, mini_batches, inputs)

    def _loss_of(self, task: Task, own: Sequence[Tensor], mini_batches: Sequence[Features], batch: Batch) -> Tensor:
        """The loss of the whole batch, from this process's embeddings of it."""
        device = self._encoder.device
        embeddings = shares.all_embeddings(own, mini_batches, device, self._processes)
        with self.accelerator.autocast(), shares.draws_of(self.args.seed, self.state.global_step, device):
            return task.loss(embeddings, batch)

    def _embed(self, task: Task, model: nn.Module, features: Features) -> Tensor:
        with self.accelerator.autocast():
            return task.embed(model, features)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With a loss also its parts, the speed and the share of padding since the last one, under their names in the
        report."""
        if "loss" in logs:
            logs |= {name: float(torch.stack(values).mean()) for name, values in self._parts.items()}
            self._parts.clear()
            pieces = [task.pieces for task in self.tasks]
            counts = (self._n_examples, sum(p.n_tokens for p in pieces), sum(p.n_padded_tokens for p in pieces))
            examples, tokens, padded = (now - before for now, before in zip(counts, self._logged, strict=True))
            self._logged = counts
            seconds = sum(clock.lap() for clock in self._clocks)
            logs["examples_per_second"] = examples / seconds if seconds else 0.0
            logs["token_waste"] = padded / tokens - 1 if tokens else 0.0
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The figure of the dev pool, and the mean number of weights of its queries and passages where they have
        any."""
        assert self._dev_pool is not None, "evaluation is scheduled only with a dev pool"
        active = self._encoder.active if isinstance(self._encoder, SparseEncoder | UnifiedEncoder) else None
        if active is not None:
            active.taken()  # what was counted before
        with merged(self._encoder):
            scores = self._dev_pool.scores(self._encoder)
        metrics = {f"eval_{self.measure}": float(scores.mean())}
        if active is not None:
            metrics |= {f"eval_active_dimensions_{side}": mean for side, mean in active.taken().items()}
        metrics |= {f"eval_{name}": mean for name, mean in self._dev_pool.by_task(scores).items()}
        if self.state.best_metric is None or metrics[f"eval_{self.measure}"] > self.state.best_metric:
            self.best_scores = scores
        self.log(metrics)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """The weights that train, and negatives where they change: the library would also pickle its arguments."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        left_out, weights = self._left_out(), state_dict or self.model.state_dict()
        trained = {name: weight for name, weight in weights.items() if name not in left_out}
        save_file(trained, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        if self._mining:
            write_negatives([task.negatives for task in self._mining], folder / NEGATIVES_FILE)

    def _save_rng_state(self, output_dir: str) -> None:
        """All processes' are there before the trainer's state is, which says that a checkpoint is whole."""
        super()._save_rng_state(output_dir)
        shares.all_well(self._encoder.device, self._processes)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Raises ArtifactError where a checkpoint is not of this model; what is left out is in none."""
        wrong = {*load_result.unexpected_keys, *load_result.missing_keys} - self._left_out()
        if wrong:
            raise ArtifactError(f"{self.args.output_dir}: checkpoints of another model ({min(wrong)}); delete them")

    def _left_out(self) -> set[str]:
        """Of the weights' names, those of what does not train, and the further ones of tied weights."""
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        return set(self.model.state_dict()) - trained - {name for name, _ in self.model.named_buffers()}


def _had_ended(state: TrainerState) -> bool:
    return bool(state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"])
