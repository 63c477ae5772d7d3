"""Training speed and memory on a CPU against the trainers of peers, side by side in one run.

    python benchmarks/train.py --data $BESSEMER_DATA/beir/pubmedqa [--json benchmarks/train.json]
    pip install FlagEmbedding==1.4.2    # without it that contestant is left out, and the run says so

All contestants (trainers.py) train the same model on the same (query, positive, negative) triples in the same batches
of 64 and the same order, cut at 256 tokens, with the model's own dropout, temperature 0.05, AdamW at 5e-5. No query
and no passage occurs twice, so that no trainer's rule for duplicates changes a loss: mean losses agree but for rounding
and the draws of dropout. How far they agree without these draws is measured, too: two steps at batch 16, dropout off.

- "bessemer": our trainer as it is; "plain torch": it without the CPU path (`bessemer.training.cpu`), eager attention.
- "sentence-transformers": SentenceTransformerTrainer, MultipleNegativesRankingLoss, its defaults (fp32, shuffled
  batches). "... bf16": the same with bf16=True and its NO_DUPLICATES batch sampler, the one that the loss's
  documentation recommends (NO_DUPLICATES_HASHED makes the same batches; it has no sampler by length).
- "FlagEmbedding bf16": the trainer of FlagEmbedding.finetune.embedder.encoder_only.base, on BGE JSONL, with the half
  precision of its documented command (fp16 there, which a CPU does not train in); "FlagEmbedding": fp32, its default.

Each is a fresh process. Its first step is not counted, since it is spent on new memory; collating is. Rounds
alternate; a ratio is the median over rounds of the ratio within the round. In every round plain bf16 matrix products of
the model's shapes give the rate of the machine, and tokens per second (without padding) are reported as a share of what
it allows: 6 FLOPs per token and parameter outside the embeddings, and 12 * layers * width * length for attention. Last,
the peak memory of our trainer at batch 64 and at batch 1024. Run it on a machine with nothing else to do: about half
an hour on two cores, 20 minutes with --steps 1 --rounds 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from pairs import relevant_pairs
from processes import alone
from trainers import CONTESTANTS, LEARNING_RATE, LENGTH, TEMPERATURE, Job, bessemer, bessemer_by_grad_cache

BY_DEFAULT = [name for name in CONTESTANTS if name != "FlagEmbedding"]
TARGETS = {"sentence-transformers": 12, "sentence-transformers bf16": 8, "FlagEmbedding bf16": 8}
TARGET_SHARE_OF_RATE = 0.5
TARGET_MEMORY_RATIO = 1.3
CHECK_BATCH = 16
MATRIX_TOKENS = (1024, 4096)
MATRIX_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="BEIR folder")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--out", type=Path, default=Path("out/train"), help="folder for the base model and the triples")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--warmup", type=int, default=1, help="steps before the timed ones")
    parser.add_argument("--steps", type=int, default=2, help="timed steps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(CONTESTANTS), default=BY_DEFAULT)
    parser.add_argument("--memory-batches", nargs=2, type=int, default=[64, 1024], metavar=("SMALL", "LARGE"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    out = given.out.resolve()
    job = Job(out, out / "base", out / "triples.jsonl", given.batch, given.warmup, given.steps)
    small, large = (replace(job, triples=out / "many.jsonl", batch=n, warmup=0, steps=1) for n in given.memory_batches)
    run = partial(alone, log=out / "output.txt")

    names = [name for name in given.only if is_installed(name)]
    facts = run(prepare, given.data, given.model, job, large)
    rounds = []
    for _ in range(given.rounds):
        rounds.append({name: run(CONTESTANTS[name], job) for name in names} | {"rate": run(matrix_rate, job.base)})
        print(" | ".join(f"{name} {speed(rounds[-1][name], job):.2f}" for name in names), "examples/s", flush=True)
    check = replace(job, base=out / "base_without_dropout", batch=min(CHECK_BATCH, job.batch), warmup=0, steps=2)
    losses = {name: run(CONTESTANTS[name], check)["losses"] for name in names}
    memory = {
        "small": run(bessemer, small)["peak_memory_mib"],
        "small, by GradCache": run(bessemer_by_grad_cache, small)["peak_memory_mib"],
        "large": run(bessemer, large)["peak_memory_mib"],
    }
    report = {
        "data": given.data.name,
        "model": given.model,
        "max_length": LENGTH,
        "batch": job.batch,
        "negatives": "1 per query, drawn at random",
        "learning_rate": LEARNING_RATE,
        "temperature": TEMPERATURE,
        "warmup_steps_not_timed": job.warmup,
        "timed_steps": job.steps,
        "rounds": given.rounds,
        "left_out": [name for name in given.only if name not in names],
        **speeds(rounds, names, job, facts),
        "losses_without_dropout": {"batch": check.batch, **losses},
        "memory": {**memory_report(memory), "batches": given.memory_batches},
        "machine": facts["machine"],
    }
    print(table(report))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def is_installed(name: str) -> bool:
    if not name.startswith("FlagEmbedding") or importlib.util.find_spec("FlagEmbedding"):
        return True
    print(f"{name}: left out, the package is not installed; pip install FlagEmbedding==1.4.2", file=sys.stderr)
    return False


# ---- the data, made once ----


def prepare(data: Path, model: str, job: Job, many: Job) -> dict[str, Any]:
    """Write the base model and both files of triples; return the tokens of each triple and the FLOPs per token."""
    from bessemer.encoders.load import load_encoder
    from bessemer.formats.beir import read_beir
    from encode import machine

    encoder = load_encoder(model, device="cpu", max_length=LENGTH)
    encoder.save(job.base)
    write_without_dropout(job.base, job.base.with_name("base_without_dropout"))
    pairs, texts = train_pairs(read_beir(data).collection)
    triples = distinct_triples(pairs, texts, job.batch * (job.warmup + job.steps))
    write_jsonl(job.triples, triples)
    draws = random.Random(1)
    write_jsonl(many.triples, [(*pair, draws.choice(texts)) for pair in islice(cycle(pairs), many.batch)])
    lengths = [
        [len(ids) for ids in (*encoder.tokenize([query], "query"), *encoder.tokenize([positive, negative], "passage"))]
        for query, positive, negative in triples
    ]
    return {
        "tokens": [sum(row) for row in lengths],
        "flops_per_token": flops_per_token(encoder.model[0].model, [length for row in lengths for length in row]),
        "machine": machine() | {"FlagEmbedding": version("FlagEmbedding") if is_installed("FlagEmbedding") else None},
    }


def write_without_dropout(base: Path, copy: Path) -> None:
    shutil.copytree(base, copy, dirs_exist_ok=True)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")


def train_pairs(collection: Any) -> tuple[list[tuple[str, str]], list[str]]:
    """(query, positive) of the train split, shuffled, and the texts of all passages."""
    pairs = relevant_pairs(collection)
    random.Random(0).shuffle(pairs)
    return pairs, list(dict.fromkeys(passage.indexed_text for passage in collection.passages))


def distinct_triples(pairs: Sequence[tuple[str, str]], texts: Sequence[str], n: int) -> list[tuple[str, str, str]]:
    """No text occurs twice. Negatives are drawn at random: how hard they are does not change the speed."""
    used: set[str] = set()
    chosen = []
    for pair in pairs:
        if len(chosen) < n and used.isdisjoint(pair):
            chosen.append(pair)
            used.update(pair)
    unused = [text for text in texts if text not in used]
    if min(len(chosen), len(unused)) < n:
        sys.exit(
            f"{n} distinct triples are needed, there are {min(len(chosen), len(unused))}; lower --batch or --steps"
        )
    negatives = random.Random(0).sample(unused, n)
    return [(*pair, negative) for pair, negative in zip(chosen, negatives, strict=True)]


def write_jsonl(file: Path, triples: Sequence[tuple[str, str, str]]) -> None:
    rows = [{"query": query, "pos": [positive], "neg": [negative]} for query, positive, negative in triples]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# ---- what the machine can do ----


def flops_per_token(transformer: Any, lengths: Sequence[int]) -> float:
    """Forward and backward, of the products with weights and of those in attention; the mean over all tokens."""
    n_parameters = sum(
        parameter.numel()
        for name, parameter in transformer.named_parameters()
        if "embeddings" not in name and "pooler" not in name
    )
    config = transformer.config
    in_attention = 12 * config.num_hidden_layers * config.hidden_size
    return 6 * n_parameters + in_attention * sum(length**2 for length in lengths) / sum(lengths)


@torch.inference_mode()
def matrix_rate(base: Path) -> dict[int, float]:
    """GFLOP/s of the bf16 products of one layer, forward and backward, by the number of tokens at once."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes = [(width, width)] * 4 + [(width, inner), (inner, width)]
    rates = {}
    for n in MATRIX_TOKENS:
        layers = [(bf16_matrix(n, i), bf16_matrix(o, i), bf16_matrix(n, o)) for i, o in shapes]
        products(layers)
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < MATRIX_SECONDS:
            products(layers)
            done += 1
        rates[n] = done * sum(6 * n * i * o for i, o in shapes) / (time.perf_counter() - started) / 1e9
    return rates


def bf16_matrix(*shape: int) -> torch.Tensor:
    return torch.randn(shape).bfloat16()


def products(layers: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> None:
    """Of each linear layer its output, the gradient of its input and the gradient of its weight."""
    for x, weight, gradient in layers:
        torch.mm(x, weight.T)
        torch.mm(gradient, weight)
        torch.mm(gradient.T, x)


# ---- the report ----


def speed(result: dict[str, Any], job: Job) -> float:
    """Examples per second of the timed steps."""
    return job.batch * job.steps / sum(result["seconds"])


def speeds(rounds: list[dict[str, Any]], names: Sequence[str], job: Job, facts: dict[str, Any]) -> dict[str, Any]:
    """Medians over rounds, and the ratios of bessemer to the others within each round."""
    timed_tokens = facts["tokens"][job.batch * job.warmup :]
    tokens_per_example = statistics.fmean(timed_tokens)
    rate = statistics.median(max(one["rate"].values()) for one in rounds)
    contestants, ratios = {}, {}
    for name in names:
        results = [one[name] for one in rounds]
        examples_per_second = statistics.median(speed(result, job) for result in results)
        contestants[name] = {
            "examples_per_second": examples_per_second,
            "tokens_per_second": examples_per_second * tokens_per_example,
            "share_of_bf16_rate": examples_per_second * tokens_per_example * facts["flops_per_token"] / (rate * 1e9),
            "padded_token_share": results[0]["padded_token_share"],
            "peak_memory_mib": statistics.median(result["peak_memory_mib"] for result in results),
            "mean_loss": statistics.fmean(loss for result in results for loss in result["losses"]),
            "bf16": results[0]["bf16"],
            "dropout": results[0]["dropout"],
            "losses": [result["losses"] for result in results],
            "seconds_per_step": [result["seconds"] for result in results],
        }
        if name != "bessemer" and "bessemer" in names:
            by_round = [speed(one["bessemer"], job) / speed(one[name], job) for one in rounds]
            ratios[name] = {"median": statistics.median(by_round), "rounds": by_round, "target": TARGETS.get(name)}
    return {
        "tokens_per_example": tokens_per_example,
        "contestants": contestants,
        "ratio": ratios,
        "bf16_rate": {
            "gflops": rate,
            "gflops_by_tokens_at_once": [one["rate"] for one in rounds],
            "flops_per_token": facts["flops_per_token"],
            "tokens_per_second_at_this_rate": rate * 1e9 / facts["flops_per_token"],
            "target_share": TARGET_SHARE_OF_RATE,
        },
    }


def memory_report(peaks: dict[str, float]) -> dict[str, Any]:
    """Small batches keep the graphs of all their mini-batches where these fit; large ones go by GradCache."""
    return {
        "peak_mib": peaks,
        "ratio": peaks["large"] / peaks["small"],
        "ratio_both_by_grad_cache": peaks["large"] / peaks["small, by GradCache"],
        "target": TARGET_MEMORY_RATIO,
    }


def table(report: dict[str, Any]) -> str:
    lines = [
        "| trainer | examples/s | tokens/s | of bf16 rate | padding | peak MiB | mean loss | bessemer / it | target |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in report["contestants"].items():
        ratio = report["ratio"].get(name, {"median": None, "target": None})
        lines.append(
            f"| {name} | {found['examples_per_second']:.2f} | {found['tokens_per_second']:.0f} "
            f"| {found['share_of_bf16_rate']:.1%} | {found['padded_token_share']:.1%} "
            f"| {found['peak_memory_mib']:.0f} | {found['mean_loss']:.4f} "
            f"| {times(ratio['median'])} | {times(ratio['target'])} |"
        )
    rate, memory = report["bf16_rate"], report["memory"]
    small, large = memory["batches"]
    lines += [
        "",
        f"bf16 rate: {rate['gflops']:.0f} GFLOP/s, {rate['flops_per_token'] / 1e6:.1f} MFLOP per token: at most "
        f"{rate['tokens_per_second_at_this_rate']:.0f} tokens/s; target {rate['target_share']:.0%} of it",
        f"peak memory at batch {large} over batch {small}: {memory['ratio']:.2f}, both by GradCache "
        f"{memory['ratio_both_by_grad_cache']:.2f}; target at most {memory['target']}",
        "",
        "Mean losses differ in rounding and in the draws of dropout. With dropout off, at batch "
        f"{report['losses_without_dropout']['batch']}, the losses of two steps:",
        *(
            f"    {name:28} " + " ".join(f"{loss:.4f}" for loss in losses)
            for name, losses in report["losses_without_dropout"].items()
            if name != "batch"
        ),
    ]
    return "\n".join(lines)


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}x"


if __name__ == "__main__":
    main()
