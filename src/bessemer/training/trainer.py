"""``transformers.Trainer`` with our batches and loss: logging, checkpoints, schedules and devices are its own."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EarlyStoppingCallback, Trainer, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.training.batches import Collator, Examples, Miner, TrainingSet, write_batch
from bessemer.training.callbacks import (
    EpochDraws,
    FiniteGradient,
    Progress,
    RefreshNegatives,
    TrainingClock,
    not_finite,
)
from bessemer.training.checkpoints import NEGATIVES_FILE, read_negatives, write_negatives
from bessemer.training.dev_pool import MEASURE, EvaluationPool
from bessemer.training.grad_cache import cached_backward
from bessemer.training.hardware import SAVE_TOTAL_LIMIT, whole_graph_tokens
from bessemer.training.losses import batch_loss

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
        training_set: TrainingSet,
        collator: Collator,
        dev_pool: EvaluationPool | None,
        config: FinetuneConfig,
        arguments: TrainingArguments,
        miner: Miner | None = None,
    ) -> None:
        self._encoder = encoder
        self._dev_pool = dev_pool
        self._training_set = training_set
        self._collator = collator
        self._refreshes = miner is not None and config.refresh_steps > 0
        self._batch_loss = batch_loss(config, encoder.dimension, normalised=encoder.similarity == "cosine")
        self.best_scores: NDArray[np.float64] | None = None  # per dev query, of the best weights of this process
        callbacks = [TrainingClock(), EpochDraws(training_set), FiniteGradient(), Progress()]
        if miner is not None and config.refresh_steps > 0:
            every = count_of(config.refresh_steps, arguments.max_steps)
            callbacks.insert(0, RefreshNegatives(training_set, encoder, miner, every))  # its time is training's
        if dev_pool is not None:
            callbacks.append(EarlyStoppingCallback(config.early_stopping_patience))
        super().__init__(
            model=encoder.model,
            args=arguments,
            train_dataset=Examples(len(training_set)),
            eval_dataset=training_set,  # asked for by the library, never read: `evaluate` has its own pool
            data_collator=lambda indices: {"indices": torch.tensor(indices)},
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)

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
        if checkpoint and self._refreshes:
            self._training_set.take(read_negatives(Path(checkpoint) / NEGATIVES_FILE))
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
        rows = [self._training_set[i] for i in inputs["indices"].tolist()]
        while True:
            try:
                loss = self.step_on(model, self._collator(rows), *arguments)
                break
            except torch.OutOfMemoryError:
                model.zero_grad()
                if not self._collator.halve():
                    raise
                log.warning("out of memory: mini-batches of %d tokens from here on", self._collator.mini_batch_tokens)
        if not torch.isfinite(loss):
            file = write_batch(self._training_set, rows, Path(self.args.output_dir).parent)
            raise not_finite("loss", float(loss), self.state.global_step + 1, f" The batch is in {file}.")
        return loss

    def step_on(self, model: nn.Module, batch: dict[str, Any], *arguments: Any) -> Tensor:
        """Plain where the graphs of all mini-batches fit into memory; by GradCache, which is exact, where not."""
        if batch["n_tokens"] > whole_graph_tokens(self._encoder) or self._collator.was_halved:
            model.train()
            return self._step_by_grad_cache(model, self._prepare_inputs(batch))
        loss: Tensor = super().training_step(model, batch, *arguments)
        return loss

    def _step_by_grad_cache(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        with self.compute_loss_context_manager():
            return cached_backward(
                [*inputs["queries"]["features"], *inputs["passages"]["features"]],
                lambda features: self._embed(model, features),
                lambda found: self._loss(found, inputs),
                self.accelerator.backward,
            )

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        mini_batches = [*inputs["queries"]["features"], *inputs["passages"]["features"]]
        return self._loss([self._embed(model, features) for features in mini_batches], inputs)

    def _embed(self, model: nn.Module, features: dict[str, Tensor]) -> Tensor:
        """Embeddings (n, d) of a mini-batch, as the encoder gives them: many cosine models have no module for it."""
        found = model(features)["sentence_embedding"].float()[:, : self._encoder.dimension]
        return F.normalize(found, dim=-1) if self._encoder.similarity == "cosine" else found

    def _loss(self, embeddings: Sequence[Tensor], inputs: dict[str, Any]) -> Tensor:
        """Of the embeddings of all mini-batches, first the queries', then the passages'."""
        n_queries = len(inputs["queries"]["features"])
        queries = torch.cat(list(embeddings[:n_queries]))[inputs["queries"]["order"]]
        passages = torch.cat(list(embeddings[n_queries:]))[inputs["passages"]["order"]]
        return self._batch_loss(queries, passages, inputs["positives"], inputs["excluded"])

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """nDCG@10 on the dev pool."""
        assert self._dev_pool is not None, "evaluation is scheduled only with a dev pool"
        scores = self._dev_pool.scores(self._encoder)
        metrics = {f"eval_{MEASURE}": float(scores.mean())}
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
        if self._refreshes:
            write_negatives(self._training_set.negatives, folder / NEGATIVES_FILE)


def _had_ended(state: TrainerState) -> bool:
    return bool(state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"])


def training_arguments(
    config: FinetuneConfig, n_examples: int, folder: Path, encoder: DenseEncoder, *, seed: int, evaluate: bool
) -> TrainingArguments:
    """Our configuration in Hugging Face's terms; shares of all steps become counts."""
    batch_size = min(config.per_device_train_batch_size, n_examples)
    per_epoch = -(-n_examples // batch_size)
    on_cpu = encoder.device == "cpu"
    total = config.max_steps if config.max_steps > 0 else max(1, round(per_epoch * config.num_train_epochs))
    every = count_of(config.eval_steps, total)
    arguments = TrainingArguments(
        output_dir=str(folder),
        learning_rate=config.learning_rate or (STATIC_LEARNING_RATE if encoder.is_static else LEARNING_RATE),
        max_steps=total,
        per_device_train_batch_size=batch_size,
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
