"""From data and configuration to a trainer that is ready to start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError
from bessemer.training import shares
from bessemer.training.adore import FrozenPassagesTask
from bessemer.training.arguments import training_arguments
from bessemer.training.batches import TrainingData
from bessemer.training.dev_pool import DevPool
from bessemer.training.distillation_task import DistillationTask
from bessemer.training.distributed import joined_processes
from bessemer.training.hardware import mini_batch_tokens
from bessemer.training.lora import merged
from bessemer.training.losses import FOR_TEACHERS
from bessemer.training.pair_task import PairData, PairTask
from bessemer.training.sampling import Share, TaskBatches
from bessemer.training.tasks import RetrievalTask, Task
from bessemer.training.trainer import ContrastiveTrainer
from bessemer.training.unified_task import UnifiedDistillationTask, UnifiedTask


def open_trainer(
    data: Sequence[TrainingData | PairData],
    encoder: Trainable,
    dev_pool: DevPool | None,
    config: FinetuneConfig,
    seed: int,
    folder: Path,
) -> ContrastiveTrainer:
    """Ready to train ``encoder`` on ``data``, with checkpoints in ``folder``. Raises DataError, ConfigError."""
    processes = joined_processes()
    shares.same_weights(encoder.model, processes)
    with merged(encoder):  # some encode their passages when they are made
        tasks = [_task(part, encoder, config, seed, processes.n) for part in data]
    batches = TaskBatches([Share(len(task), task.batch_size) for task in tasks], config.sampling_alpha, seed)
    if batches.least < processes.n:
        raise ConfigError(f"{processes.n} processes for a batch of {batches.least} examples: start fewer of them")
    own_size = -(-max(task.batch_size for task in tasks) // processes.n)
    settled = config.model_copy(update={"per_device_train_batch_size": own_size})
    measure = None if dev_pool is None else dev_pool.measure
    arguments = training_arguments(settled, len(batches), folder, encoder, seed=seed, measure=measure)
    if arguments.world_size != processes.n:
        raise ConfigError(f"{arguments.world_size} processes: `finetune` is what several of them run together")
    return ContrastiveTrainer(encoder, tasks, batches, dev_pool, config, arguments)


def _task(
    data: TrainingData | PairData, encoder: Trainable, config: FinetuneConfig, seed: int, n_processes: int
) -> Task:
    """With the whole batches of all processes."""
    config = _of_all(n_processes, config, encoder)
    if data.settings is not None:
        data = replace(data, settings=_of_all(n_processes, data.settings, encoder))
    settings = data.settings or config
    if settings.trained_head != "dense" and isinstance(data, TrainingData):
        kind = UnifiedDistillationTask if settings.loss in FOR_TEACHERS else UnifiedTask
        return kind(data, encoder, config, seed)
    if not isinstance(encoder, DenseEncoder):
        raise ConfigError(f"{encoder.name}: gives no dense vectors to train; a dense model does")
    if isinstance(data, PairData):
        return PairTask(data, encoder, config)
    if settings.loss in FOR_TEACHERS:
        return DistillationTask(data, encoder, config, seed)
    return (FrozenPassagesTask if settings.frozen_passages else RetrievalTask)(data, encoder, config, seed)


def _of_all(n_processes: int, config: FinetuneConfig, encoder: Trainable) -> FinetuneConfig:
    """What is asked for per process, as the whole batch has it; ``auto`` chooses the size of a whole batch.

    Each process encodes its share of every mini-batch. A GPU wants its fill of tokens; on a CPU it is the width of a
    mini-batch that counts, since narrow ones waste less padding and half of 1,024 tokens are as fast (docs/log.md).
    """
    size = config.per_device_train_batch_size
    tokens = config.mini_batch_tokens or mini_batch_tokens(encoder)
    return config.model_copy(
        update={
            "per_device_train_batch_size": size if size == "auto" else n_processes * size,
            "mini_batch_tokens": tokens if encoder.device == "cpu" else n_processes * tokens,
        }
    )
