"""The sections of unified.py on training: the sparse part of a step, and whole steps against dense-only ones."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from processes import alone

VOCABULARY, QUERIES, GROUP, LENGTH = 250_002, 16, 4, 256
TARGET_SPEED, TARGET_MEMORY, TARGET_STEP = 10, 0.1, 1.35
MODEL, BATCH, MAX_LENGTH = "minilm", 64, 256
HEADS = ("dense", "unified")


def sparse(arguments: argparse.Namespace) -> dict[str, Any]:
    """Forward and backward of the sparse scores of 16 queries with 64 passages of 256 tokens, vocabulary 250,002.

    The plain path needs a (texts, length, vocabulary) tensor and its gradient, 2 * 20.5 GB in all: it is run on
    ``--plain-texts`` texts and counted for 80, in which its time and memory are linear. Memory is what the process's
    peak grows by.
    """
    run = partial(alone, log=Path(tempfile.mkdtemp()) / "output.txt")
    ours = [run(lean_scores) for _ in range(arguments.rounds)]
    plain = [run(plain_scores, arguments.plain_texts) for _ in range(arguments.rounds)]
    n_texts = QUERIES * (1 + GROUP)
    result: dict[str, Any] = {
        "plain_texts": arguments.plain_texts,
        "counted_for": n_texts,
        "ours": ours,
        "plain": plain,
    }
    for name in ("seconds", "mib"):
        lean = statistics.median(one[name] for one in ours)
        full = statistics.median(one[name] for one in plain) * n_texts / arguments.plain_texts
        result[f"{name}_ratio"] = full / lean
    result["targets"] = {"seconds_ratio": TARGET_SPEED, "mib_ratio": 1 / TARGET_MEMORY}
    return result


def lean_scores() -> dict[str, float]:
    from bessemer.encoders.batch_scores import lexical_scores

    (q_ids, q_weights), (p_ids, p_weights) = texts(QUERIES), texts(QUERIES * GROUP)
    return measured(lambda: lexical_scores([(q_ids, q_weights)], [(p_ids, p_weights)]))


def plain_scores(n_texts: int) -> dict[str, float]:
    ids, weights = texts(n_texts)

    def scores() -> torch.Tensor:
        everything = torch.zeros(*ids.shape, VOCABULARY)
        rows = everything.scatter(2, ids[..., None], weights[..., None]).max(dim=1).values
        return rows @ rows.T

    return measured(scores)


def texts(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids as frequent as words are (Zipf), and their weights."""
    torch.manual_seed(n)
    ids = (VOCABULARY ** torch.rand(n, LENGTH)).long().clamp(max=VOCABULARY - 1)
    return ids, torch.rand(n, LENGTH).requires_grad_()


def measured(scores: Any) -> dict[str, float]:
    forget_peak()
    before, start = memory_mib("VmRSS"), time.perf_counter()
    scores().sum().backward()
    first = time.perf_counter() - start
    grown = memory_mib("VmHWM") - before
    start = time.perf_counter()
    scores().sum().backward()
    return {"seconds": time.perf_counter() - start, "first_seconds": first, "mib": max(grown, 0.1)}


def forget_peak() -> None:
    """From here on the peak is that of what follows (Linux): a process begins with its parent's."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_mib(name: str) -> float:
    """``VmRSS``: of this process now; ``VmHWM``: its peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Steps of a unified and of a dense-only training of minilm: 64 x (query, positive, hard negative), docstrings of
    the installed libraries, at most 256 tokens. Each is a fresh process, its first step is not counted; rounds
    alternate, and the ratio is the median of the rounds'."""
    folder = Path(tempfile.mkdtemp())
    run = partial(alone, log=folder / "output.txt")
    rounds = [
        {head: run(steps, head, arguments.batch, folder / f"{head}-{number}") for head in HEADS}
        for number in range(arguments.rounds)
    ]
    names = ("seconds", "cpu_seconds", "peak_memory_mib")
    ratios = {name: statistics.median(one["unified"][name] / one["dense"][name] for one in rounds) for name in names}
    return {"batch": arguments.batch, "rounds": rounds, "unified_to_dense": ratios, "target": {"seconds": TARGET_STEP}}


def steps(head: str, batch: int, folder: Path) -> dict[str, Any]:
    """Median seconds of a step, of two, after one that is not counted."""
    from bessemer.config import FinetuneConfig
    from bessemer.corpus.docstrings import docstring_pairs
    from bessemer.encoders.load import load_encoder
    from bessemer.encoders.sparse_start import with_heads
    from bessemer.training.batches import TrainingData
    from bessemer.training.cpu import fast_training
    from bessemer.training.open_trainer import open_trainer
    from bessemer.types import HardNegatives, Judged

    forget_peak()
    pairs = docstring_pairs().kept[: 3 * batch]
    passages = [pair.passage for pair in pairs]
    qrels = {pair.query.query_id: {pair.passage.passage_id: 1} for pair in pairs}
    negatives = [
        HardNegatives(pair.query.query_id, (passages[(i + 1) % len(pairs)].passage_id,), (0.0,), {}, "random")
        for i, pair in enumerate(pairs)
    ]
    encoder = load_encoder(MODEL, device="cpu", max_length=MAX_LENGTH)
    encoder = (
        with_heads(encoder, [passage.indexed_text for passage in passages[:200]], 0) if head != "dense" else encoder
    )
    settings = {"head": head, "max_steps": 3, "per_device_train_batch_size": batch}
    taught = {"self_distillation": True, "self_distillation_start": 0} if head == "unified" else {}
    data = TrainingData(Judged(tuple(pair.query for pair in pairs), qrels), passages, negatives)
    trainer = open_trainer([data], encoder, None, FinetuneConfig(**settings, **taught), 0, folder)
    trainer.args.save_strategy = "no"
    clock = Clock()
    trainer.add_callback(clock)
    with fast_training(encoder, bf16=trainer.args.bf16):
        trainer.train()
    seconds, cpu_seconds = (
        [after - before for before, after in pairwise(times[1:])] for times in (clock.times, clock.cpu_times)
    )
    tokens = trainer.tasks[0].pieces.n_padded_tokens
    return {
        "seconds": statistics.median(seconds),
        "cpu_seconds": statistics.median(cpu_seconds),  # what is left to go by on a machine with other work
        "tokens_per_step": tokens / 3,
        "peak_memory_mib": memory_mib("VmHWM"),
        "bf16": bool(trainer.args.bf16),
    }


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.times: list[float] = []
        self.cpu_times: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())
        self.cpu_times.append(time.process_time())

    on_step_end = on_train_begin
