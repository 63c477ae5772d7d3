"""What a unified model costs beside a dense one, and beside the ways it replaces; a section for each question.

    python benchmarks/unified.py [--sections encode,...] [--json benchmarks/unified.json]

encode   All three outputs of minilm against the dense one alone: texts of about 150 tokens (docstrings), bf16 where the
         machine has it. Rounds alternate after a warm-up of each; the ratio is that of the median times.
         Promise: at most 1.15.
sparse   The sparse scores of a training step, forward and backward, against the path by a tensor of batch x length x
         vocabulary. Promise: at least 10 times faster, at most a tenth of the memory.
train    A unified training step of minilm against a dense-only one. Promise: at most 1.35 times its seconds.

Sections that are not run keep the numbers that the JSON file has. Run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bessemer.corpus.docstrings import docstring_pairs
from bessemer.encoders.encoder import OUTPUTS, Output
from bessemer.encoders.load import load_encoder
from bessemer.encoders.runtime import has_native_bf16
from bessemer.encoders.sparse_start import with_heads
from unified_training import sparse, train

WORDS_PER_TEXT = 62
"""Of docstrings, which minilm's tokenizer cuts finely: about 150 tokens."""


def seconds_of(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def docstring_texts(n_texts: int) -> list[str]:
    """Texts of WORDS_PER_TEXT words, from the docstrings of the installed libraries."""
    words = " ".join(pair.passage.text for pair in docstring_pairs().kept).split()
    starts = range(0, min(len(words), n_texts * WORDS_PER_TEXT), WORDS_PER_TEXT)
    return [" ".join(words[start : start + WORDS_PER_TEXT]) for start in starts]


def encode(arguments: argparse.Namespace) -> dict[str, Any]:
    texts = docstring_texts(arguments.n_texts)
    encoder = with_heads(load_encoder("minilm", device="cpu"), texts[:200], seed=0)
    asked: dict[str, tuple[Output, ...]] = {
        "dense": ("dense",),
        "dense, sparse": ("dense", "sparse"),
        "dense, multi_vector": ("dense", "multi_vector"),
        "all": OUTPUTS,
    }
    for outputs in asked.values():  # warm-up
        encoder.encode_passages(texts[:100], outputs)
    times: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(arguments.rounds):
        for name, outputs in asked.items():
            times[name].append(seconds_of(lambda outputs=outputs: encoder.encode_passages(texts, outputs)))
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    return {
        "n_texts": len(texts),
        "mean_tokens": statistics.fmean(len(ids) for ids in encoder.tokenize(texts, "passage")),
        "texts_per_second": {name: len(texts) / median for name, median in medians.items()},
        "ratio_to_dense": {name: median / medians["dense"] for name, median in medians.items()},
        "best_ratio": min(times["all"]) / min(times["dense"]),
        "seconds": times,
        "bf16_used": encoder.bf16,
    }


SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "encode": encode,
    "sparse": sparse,
    "train": train,
}


def machine() -> dict[str, Any]:
    cpu_info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "native_bf16": has_native_bf16("cpu"),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "numpy")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", default=",".join(SECTIONS), help="comma-separated")
    parser.add_argument("--n-texts", type=int, default=1_000, help="encode")
    parser.add_argument("--plain-texts", type=int, default=5, help="sparse: of 80, for the plain path (2 GB)")
    parser.add_argument("--batch", type=int, default=64, help="train: queries of a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = arguments.sections.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown sections {', '.join(unknown)}; known: {', '.join(SECTIONS)}")

    known = arguments.json and arguments.json.is_file()
    report = json.loads(arguments.json.read_text(encoding="utf-8")) if known else {}
    for name in names:
        facts = machine()
        report[name] = {**SECTIONS[name](arguments), "machine": facts}
        print(json.dumps({name: report[name]}, indent=2))
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
