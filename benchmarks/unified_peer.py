"""The section of unified.py on FlagEmbedding's M3 trainer: the same model, triples, batches and loss in both."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from processes import alone
from train import distinct_triples, is_installed, train_pairs, write_jsonl, write_without_dropout
from trainers import LENGTH, TEMPERATURE, Job, bessemer, measured

TARGET_RATIO = 3
CHECK_BATCH = 8
WARMUP, STEPS = 1, 1
MODELS = ("tiny", "minilm")
KINDS = {"plain": False, "self-distilled": True}
OURS, PEER = "bessemer", "FlagEmbedding"


def peer(arguments: argparse.Namespace) -> dict[str, Any]:
    """Steps of unified training beside those of FlagEmbedding 1.4.2's M3 trainer, its own `unified_finetuning`, with
    and without `use_self_distill`: (query, positive, hard negative) of pubmedqa, at most 256 tokens, temperature 0.05,
    dropout as the model has it, AdamW, bf16 in both where the machine has it. "tiny": two random layers of 64 numbers
    with minilm's tokenizer. Each is a fresh process, its first step is not counted; rounds alternate, and a ratio is
    the median of the rounds'. Last, losses of a first step in float32 with dropout off: the same loss in both.

    FlagEmbedding holds several tensors of passages x length x vocabulary: at batch 16 and minilm's vocabulary of
    30,522 each takes 0.5 GB in bf16 and 1 GB in float32, and time and memory are linear in ``--peer-batch``.
    """
    if not is_installed(PEER):
        return {"left_out": "FlagEmbedding is not installed"}
    folder = Path(tempfile.mkdtemp())
    run = partial(alone, log=folder / "output.txt")
    run(prepare, arguments.data / "beir" / "pubmedqa", folder, arguments.peer_batch * (WARMUP + STEPS))
    result: dict[str, Any] = {
        "FlagEmbedding": version(PEER),
        "batch": arguments.peer_batch,
        "rounds": arguments.rounds,
        "target": {"examples_per_second_ratio": TARGET_RATIO},
    }
    for model in MODELS:
        job = Job(folder / "run", folder / model, folder / "triples.jsonl", arguments.peer_batch, WARMUP, STEPS)
        check = replace(job, base=without_dropout(job.base), batch=CHECK_BATCH, warmup=0, steps=1)
        result[model] = {
            kind: compared(
                [
                    {name: run(contestant, job, None, distils) for name, contestant in CONTESTANTS.items()}
                    for _ in range(arguments.rounds)
                ],
                {name: run(contestant, check, False, distils) for name, contestant in CONTESTANTS.items()},
            )
            for kind, distils in KINDS.items()
        }
    shutil.rmtree(folder)
    return result


def compared(rounds: list[dict[str, Any]], check: Mapping[str, Any]) -> dict[str, Any]:
    def ratio(name: str) -> float:
        return statistics.median(sum(one[PEER][name]) / sum(one[OURS][name]) for one in rounds)

    return {
        "examples_per_second_ratio": ratio("seconds"),
        "cpu_seconds_ratio": ratio("cpu_seconds"),
        "peak_memory_mib": {
            name: statistics.median(one[name]["peak_memory_mib"] for one in rounds) for name in CONTESTANTS
        },
        "losses_without_dropout": {name: found["losses"][0] for name, found in check.items()},
        "rounds": rounds,
    }


# ---- the models and the data, made once ----


def prepare(beir: Path, folder: Path, n_triples: int) -> None:
    """Both models with heads, each with dropout and without, and the triples."""
    from bessemer.encoders.load import load_encoder
    from bessemer.encoders.sparse_start import with_heads
    from bessemer.formats.beir import read_beir

    pairs, texts = train_pairs(read_beir(beir).collection)
    write_jsonl(folder / "triples.jsonl", distinct_triples(pairs, texts, n_triples))
    load_encoder("minilm", device="cpu", max_length=LENGTH).save(folder / "plain-minilm")
    write_tiny(folder / "plain-minilm", folder / "plain-tiny")
    for model in MODELS:
        base = folder / model
        plain = load_encoder(str(folder / f"plain-{model}"), device="cpu", max_length=LENGTH)
        with_heads(plain, texts[:200], seed=0).save(base)
        name_the_end(base)
        write_without_dropout(base, without_dropout(base))


def without_dropout(base: Path) -> Path:
    return base.with_name(f"{base.name}-without-dropout")


def write_tiny(like: Path, folder: Path) -> None:
    """The folder ``like`` with a small transformer of random weights in place of its own."""
    import torch
    from transformers import BertConfig, BertModel

    shutil.copytree(like, folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertModel(BertConfig(**sizes)).save_pretrained(folder)
    pooling = folder / "1_Pooling" / "config.json"
    known = json.loads(pooling.read_text(encoding="utf-8"))
    known |= {name: sizes["hidden_size"] for name in known if name.endswith("embedding_dimension")}
    pooling.write_text(json.dumps(known), encoding="utf-8")


def name_the_end(base: Path) -> None:
    """FlagEmbedding takes ``eos_token_id`` for granted, which BERT's tokenizer calls ``sep_token_id`` alone."""
    file = base / "tokenizer_config.json"
    known = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(known | {"eos_token": known["sep_token"]}), encoding="utf-8")


# ---- the contestants ----


def ours(job: Job, bf16: bool | None, distils: bool) -> dict[str, Any]:
    taught = {"self_distillation": True, "self_distillation_start": 0} if distils else {}
    return bessemer(job, head="unified", bf16=bf16, **taught)


def flag_m3(job: Job, bf16: bool | None, distils: bool) -> dict[str, Any]:
    """What its ``__main__`` does, with arguments in place of flags. ``bf16`` None: where the machine has it."""
    from FlagEmbedding.abc.finetune.embedder import AbsEmbedderDataArguments
    from FlagEmbedding.finetune.embedder.encoder_only.m3 import (
        EncoderOnlyEmbedderM3ModelArguments,
        EncoderOnlyEmbedderM3Runner,
        EncoderOnlyEmbedderM3TrainingArguments,
    )

    from bessemer.encoders.runtime import has_native_bf16

    file = job.folder / "flag_embedding.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in job.rows()), encoding="utf-8")
    data = AbsEmbedderDataArguments(
        train_data=[str(file)],
        cache_path=str(job.folder / "datasets"),
        train_group_size=2,
        query_max_len=LENGTH,
        passage_max_len=LENGTH,
    )
    training = EncoderOnlyEmbedderM3TrainingArguments(
        output_dir=str(job.folder / "run"),
        bf16=has_native_bf16("cpu") if bf16 is None else bf16,
        temperature=TEMPERATURE,
        sentence_pooling_method="mean",
        normalize_embeddings=True,
        unified_finetuning=True,
        use_self_distill=distils,
        **job.settings(),
    )
    model = EncoderOnlyEmbedderM3ModelArguments(model_name_or_path=str(job.base))
    runner = EncoderOnlyEmbedderM3Runner(model, data, training)
    return measured(job, runner.trainer, runner.model.model, runner.run)


CONTESTANTS: dict[str, Callable[[Job, bool | None, bool], dict[str, Any]]] = {OURS: ours, PEER: flag_m3}
