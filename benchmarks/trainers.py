"""The contestants of train.py: one function each, which trains on the same triples and returns what it took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback

from processes import peak_memory_mib

LENGTH = 256
TEMPERATURE = 0.05
LEARNING_RATE = 5e-5


@dataclass(frozen=True)
class Job:
    """What a contestant trains: the model in ``base``, on the first triples of a BGE JSONL file. It may write to
    ``folder``."""

    folder: Path
    base: Path
    triples: Path
    batch: int
    warmup: int
    steps: int

    def rows(self) -> list[dict[str, Any]]:
        lines = self.triples.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[: self.batch * (self.warmup + self.steps)]]

    def settings(self) -> dict[str, Any]:
        """In the terms of transformers.TrainingArguments, which all contestants have."""
        return {
            "max_steps": self.warmup + self.steps,
            "per_device_train_batch_size": self.batch,
            "learning_rate": LEARNING_RATE,
            "weight_decay": 0.01,
            "warmup_steps": 0,
            "lr_scheduler_type": "linear",
            "max_grad_norm": 1.0,
            "seed": 0,
            "use_cpu": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }


def bessemer(job: Job, *, cpu_path: bool = True, **more: Any) -> dict[str, Any]:
    """Our trainer as it is; without the CPU path of `bessemer.training.cpu`, with plain attention of torch. ``more``:
    settings of FinetuneConfig."""
    from bessemer.config import FinetuneConfig
    from bessemer.encoders.load import load_encoder
    from bessemer.training.batches import TrainingData
    from bessemer.training.cpu import fast_training
    from bessemer.training.open_trainer import open_trainer

    encoder = load_encoder(str(job.base), device="cpu", max_length=LENGTH)
    names = ("max_steps", "per_device_train_batch_size", "learning_rate", "weight_decay", "warmup_steps")
    config = FinetuneConfig(temperature=TEMPERATURE, **{name: job.settings()[name] for name in names}, **more)
    trainer = open_trainer([TrainingData(*judged(job.rows()))], encoder, None, config, 0, job.folder / "run")
    trainer.args.save_strategy, trainer.args.logging_steps = "no", 1
    transformer = encoder.model[0].model
    if not cpu_path:
        transformer.set_attn_implementation("eager")
    in_order = np.split(np.arange(job.batch * len(trainer.batches)), len(trainer.batches))
    with (
        mock.patch.object(trainer.batches, "of_epoch", return_value=in_order),
        fast_training(encoder, bf16=trainer.args.bf16) if cpu_path else nullcontext(),
    ):
        return measured(job, trainer, transformer)


def bessemer_by_grad_cache(job: Job) -> dict[str, Any]:
    """Also where the graphs of the whole batch would fit into memory."""
    with mock.patch("bessemer.training.trainer.whole_graph_tokens", return_value=0):
        return bessemer(job)


def judged(rows: Sequence[dict[str, Any]]) -> tuple[Any, list[Any], list[Any]]:
    """Queries with judgements, passages and negatives, as our trainer takes them."""
    from bessemer.types import HardNegatives, Judged, Passage, Query

    queries = tuple(Query(f"q{i}", row["query"]) for i, row in enumerate(rows))
    texts = [(f"{kind}{i}", row[key][0]) for i, row in enumerate(rows) for kind, key in (("p", "pos"), ("n", "neg"))]
    passages = [Passage(passage_id, passage_id, text) for passage_id, text in texts]
    negatives = [HardNegatives(f"q{i}", (f"n{i}",), (0.0,), {}, "random") for i in range(len(rows))]
    return Judged(queries, {f"q{i}": {f"p{i}": 1} for i in range(len(rows))}), passages, negatives


def sentence_transformers(job: Job, *, bf16: bool, batch_sampler: str) -> dict[str, Any]:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(str(job.base), device="cpu")
    rows = [{"anchor": row["query"], "positive": row["pos"][0], "negative": row["neg"][0]} for row in job.rows()]
    arguments = SentenceTransformerTrainingArguments(
        str(job.folder / "run"), bf16=bf16, batch_sampler=batch_sampler, **job.settings()
    )
    loss = MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE)
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=Dataset.from_list(rows), loss=loss)
    return measured(job, trainer, model[0].model)


def flag_embedding(job: Job, *, bf16: bool) -> dict[str, Any]:
    """What its ``__main__`` does, with arguments in place of flags."""
    from FlagEmbedding.finetune.embedder.encoder_only.base import (
        EncoderOnlyEmbedderDataArguments,
        EncoderOnlyEmbedderModelArguments,
        EncoderOnlyEmbedderRunner,
        EncoderOnlyEmbedderTrainingArguments,
    )

    file = job.folder / "flag_embedding.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in job.rows()), encoding="utf-8")
    data = EncoderOnlyEmbedderDataArguments(
        train_data=[str(file)],
        cache_path=str(job.folder / "datasets"),
        train_group_size=2,
        query_max_len=LENGTH,
        passage_max_len=LENGTH,
    )
    arguments = EncoderOnlyEmbedderTrainingArguments(
        output_dir=str(job.folder / "run"),
        bf16=bf16,
        temperature=TEMPERATURE,
        sentence_pooling_method="mean",
        normalize_embeddings=True,
        **job.settings(),
    )
    model = EncoderOnlyEmbedderModelArguments(model_name_or_path=str(job.base))
    runner = EncoderOnlyEmbedderRunner(model, data, arguments)
    return measured(job, runner.trainer, runner.model.model, runner.run)


CONTESTANTS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "bessemer": bessemer,
    "plain torch": partial(bessemer, cpu_path=False),
    "sentence-transformers": partial(sentence_transformers, bf16=False, batch_sampler="batch_sampler"),
    "sentence-transformers bf16": partial(sentence_transformers, bf16=True, batch_sampler="no_duplicates"),
    "FlagEmbedding": partial(flag_embedding, bf16=False),
    "FlagEmbedding bf16": partial(flag_embedding, bf16=True),
}


def measured(
    job: Job, trainer: Trainer, transformer: PreTrainedModel, train: Callable[[], Any] | None = None
) -> dict[str, Any]:
    """Train, and what it took after the warm-up. Peak memory is that of the whole process."""
    meter = Meter(transformer)
    trainer.add_callback(meter)
    with order_of_the_file():
        (train or trainer.train)()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    first, last = job.warmup, job.warmup + job.steps
    padded, real = (after - before for before, after in zip(meter.tokens[first], meter.tokens[last], strict=True))
    config = transformer.config
    return {
        "seconds": [meter.times[i + 1] - meter.times[i] for i in range(first, last)],
        "cpu_seconds": [meter.cpu_times[i + 1] - meter.cpu_times[i] for i in range(first, last)],
        "losses": losses[first:last],
        "padded_token_share": 1 - real / padded,
        "peak_memory_mib": peak_memory_mib(),
        "dropout": [config.hidden_dropout_prob, config.attention_probs_dropout_prob],
        "bf16": bool(trainer.args.bf16),
    }


class Meter(TrainerCallback):
    """The time at the end of every step, and the tokens that the transformer has read until then."""

    def __init__(self, transformer: PreTrainedModel) -> None:
        self.times: list[float] = []
        self.cpu_times: list[float] = []
        self.tokens: list[tuple[int, int]] = []  # with padding, without
        self._padded = self._real = 0
        self._pad_id = transformer.config.pad_token_id
        transformer.get_input_embeddings().register_forward_pre_hook(self._count)  # no trainer goes around this module

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())
        self.cpu_times.append(time.process_time())
        self.tokens.append((self._padded, self._real))

    on_step_end = on_train_begin

    def _count(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._padded += inputs[0].numel()
        self._real += int((inputs[0] != self._pad_id).sum())


@contextmanager
def order_of_the_file() -> Iterator[None]:
    """The samplers of the libraries shuffle by torch.randperm: with the identity for it, their batches are the same."""

    def identity(n: int, *_: Any, dtype: torch.dtype = torch.int64, **__: Any) -> torch.Tensor:
        return torch.arange(n, dtype=dtype)

    with mock.patch("torch.randperm", identity):
        yield
