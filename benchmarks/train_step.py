"""Training speed on a CPU: our step against the same step in plain torch and against sentence-transformers' trainer.

    python benchmarks/train_step.py --data $BESSEMER_DATA/beir/pubmedqa [--json train_step.json]

The same (query, positive, negative) triples in the same order, batches of 64, bf16 autocast, AdamW, MiniLM. "bessemer"
is our trainer as it is; "plain torch" is it without the CPU path (`bessemer.training.cpu`), with eager attention;
"sentence-transformers" is SentenceTransformerTrainer with MultipleNegativesRankingLoss, with bf16=True and as it comes
(fp32). Each is a fresh process with its first step not counted, since it is spent on new memory; rounds alternate. Run
it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

BATCH, STEPS = 64, 5
KINDS = ("bessemer", "plain torch", "sentence-transformers bf16", "sentence-transformers")


class StepTimes(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self._since)


def triples(folder: Path) -> list[tuple[str, str, str]]:
    """(query, positive, negative) of the train split, the negative drawn at random."""
    from bessemer.formats.beir import read_beir

    collection = read_beir(folder).collection
    texts = {passage.passage_id: passage.indexed_text for passage in collection.passages}
    train, generator, ids = collection.splits["train"], random.Random(0), sorted(texts)
    pairs = [
        (query.text, texts[passage_id], texts[generator.choice(ids)])
        for query in train.queries
        for passage_id, grade in train.qrels[query.query_id].items()
        if grade > 0
    ]
    generator.shuffle(pairs)
    return pairs[: BATCH * STEPS]


def ours(rows: list[tuple[str, str, str]], fast: bool) -> list[float]:
    from bessemer.config import FinetuneConfig
    from bessemer.encoders.load import load_encoder
    from bessemer.training.batches import Collator, TrainingSet
    from bessemer.training.cpu import fast_training
    from bessemer.training.hardware import mini_batch_tokens
    from bessemer.training.trainer import ContrastiveTrainer, training_arguments
    from bessemer.types import HardNegatives, Judged, Passage, Query

    encoder = load_encoder("minilm")
    passages = [
        Passage(f"{kind}{i}", f"{kind}{i}", row[j]) for i, row in enumerate(rows) for j, kind in ((1, "p"), (2, "n"))
    ]
    judged = Judged(
        tuple(Query(f"q{i}", row[0]) for i, row in enumerate(rows)), {f"q{i}": {f"p{i}": 1} for i in range(len(rows))}
    )
    negatives = [HardNegatives(f"q{i}", (f"n{i}",), (0.0,), {}, "random") for i in range(len(rows))]
    training_set = TrainingSet(judged, passages, negatives, 1, 0)
    collator = Collator(encoder, training_set, mini_batch_tokens(encoder))
    config = FinetuneConfig(max_steps=STEPS, per_device_train_batch_size=BATCH)
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(config, len(rows), Path(folder), encoder, seed=0, evaluate=False)
        arguments.save_strategy = "no"
        trainer = ContrastiveTrainer(encoder, training_set, collator, None, config, arguments)
        trainer.add_callback(times)
        if not fast:
            encoder.model[0].model.set_attn_implementation("eager")
        with fast_training(encoder, bf16=arguments.bf16) if fast else nullcontext():
            trainer.train()
    return times.seconds


def peers(rows: list[tuple[str, str, str]], bf16: bool) -> list[float]:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    from bessemer.encoders.load import load_encoder

    model: SentenceTransformer = load_encoder("minilm").model
    columns = dict(zip(("anchor", "positive", "negative"), map(list, zip(*rows, strict=True)), strict=True))
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder, max_steps=STEPS, per_device_train_batch_size=BATCH, bf16=bf16, use_cpu=True, save_strategy="no",
            report_to="none", learning_rate=5e-5, disable_tqdm=True,
        )  # fmt: skip
        trainer = SentenceTransformerTrainer(
            model, arguments, train_dataset=Dataset.from_dict(columns), loss=MultipleNegativesRankingLoss(model),
            callbacks=[times],
        )  # fmt: skip
        trainer.train()
    return times.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="BEIR folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        rows = triples(arguments.data)
        kind = arguments.one
        seconds = peers(rows, kind.endswith("bf16")) if "sentence" in kind else ours(rows, kind == "bessemer")
        print("SECONDS", json.dumps(seconds))
        return
    found: dict[str, list[float]] = {kind: [] for kind in arguments.only}
    for _ in range(arguments.rounds):
        for kind in arguments.only:
            command = [sys.executable, __file__, "--data", str(arguments.data), "--one", kind]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds = json.loads(out.partition("SECONDS ")[2].splitlines()[0])
            found[kind] += seconds[1:]
            print(f"{kind:28} " + " ".join(f"{value:.2f}" for value in seconds), flush=True)
    speed = {kind: BATCH / statistics.median(values) for kind, values in found.items()}
    result = {
        "data": arguments.data.name,
        "batch": BATCH,
        "examples_per_second": speed,
        "ratio": {kind: speed["bessemer"] / speed[kind] for kind in found if kind != "bessemer"},
        "seconds_per_step": found,
    }
    print(json.dumps({key: result[key] for key in ("examples_per_second", "ratio")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
