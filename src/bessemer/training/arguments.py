"""Our configuration of training in the terms of Hugging Face's trainer."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import TrainingArguments

from bessemer.config import FinetuneConfig
from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError
from bessemer.training.lora import LORA_LEARNING_RATE

LEARNING_RATE = 5e-5
STATIC_LEARNING_RATE = 1e-2
"""A table of token vectors has no layers to multiply a small step: it needs far larger ones (not swept yet)."""


def training_arguments(
    config: FinetuneConfig, per_epoch: int, folder: Path, encoder: Trainable, *, seed: int, measure: str | None
) -> TrainingArguments:
    """Our configuration in Hugging Face's terms; shares of all steps become counts. ``per_epoch``: batches;
    ``measure``: what checkpoints are chosen by, if they are. Raises ConfigError for fp16 on a CPU.
    """
    on_cpu = encoder.device == "cpu"
    if config.fp16 and on_cpu:
        raise ConfigError("--fp16: the CPU trains in fp32, or in bf16 with --bf16; fp16 needs a GPU")
    total = config.max_steps if config.max_steps > 0 else max(1, round(per_epoch * config.num_train_epochs))
    every = count_of(config.eval_steps, total)
    arguments = TrainingArguments(
        output_dir=str(folder),
        learning_rate=config.learning_rate or _usual_learning_rate(config, encoder),
        max_steps=total,
        per_device_train_batch_size=config.per_device_train_batch_size,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        lr_scheduler_type=config.lr_scheduler_type,
        bf16=(encoder.bf16 and not config.fp16) if config.bf16 is None else config.bf16,
        fp16=config.fp16,
        use_cpu=on_cpu,
        seed=seed,
        data_seed=seed,
        eval_strategy="steps" if measure else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=config.save_total_limit,
        load_best_model_at_end=measure is not None,
        metric_for_best_model=measure,
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        logging_steps=count_of(config.logging_steps, total) if config.logging_steps else max(1, total // 50),
        run_name=config.run_name,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=False,  # batches are made on the device
        disable_tqdm=True,
        report_to="none",  # `open_trackers` makes them, with errors of our kind
    )
    arguments._n_gpu = 1  # one process drives one device: DataParallel would cut our batches apart
    if encoder.device.startswith("cuda:"):  # the library takes the first GPU, whichever was asked for
        arguments._setup_devices = torch.device(encoder.device)
        torch.cuda.set_device(encoder.device)  # its random state is what GradCache puts back
    return arguments


def _usual_learning_rate(config: FinetuneConfig, encoder: Trainable) -> float:
    if config.lora_rank:
        return LORA_LEARNING_RATE
    return STATIC_LEARNING_RATE if encoder.is_static else LEARNING_RATE


def count_of(steps: float, total: int) -> int:
    """A share of all steps, so that the last one ends with the run, or a count as it is."""
    return math.ceil(steps * total - 1e-9) if steps < 1 else int(steps)
