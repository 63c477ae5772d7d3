"""What a unified model costs beside a dense one, and beside the ways it replaces; a section for each question.

    python benchmarks/unified.py --data $BESSEMER_DATA [--sections encode,...] [--write-docs]
    pip install FlagEmbedding==1.4.2    # without it the section peer is left out, and the run says so

encode   All three outputs of minilm against the dense one alone: texts of about 150 tokens (docstrings), bf16 where the
         machine has it. Rounds alternate after a warm-up of each; the ratio is that of the median times.
         Promise: at most 1.15.
score    `compute_score` on 4,096 pairs against the diagonal of matrices of all queries by all passages. Promise: linear
         in pairs, at least 20 times faster, the same to 1e-5.
sparse   The sparse scores of a training step, forward and backward, against the path by a tensor of batch x length x
         vocabulary. Promise: at least 10 times faster, at most a tenth of the memory.
train    A unified training step of minilm against a dense-only one. Promise: at most 1.35 times its seconds.
peer     A unified training step against one of FlagEmbedding's M3 trainer, of a tiny model and of minilm. Promise: at
         least 3 times the examples per second.
storage  nDCG@10 on cranfield of multi-vectors in fewer bytes and of fewer sparse weights. No promise: it is measured.

Sections that are not run keep the numbers that the JSON file has. Run it on a machine with nothing else to do, with
10 GB free for the section peer. Beside seconds of the clock stand those of the processor, which are what is left to
go by on a busy machine (with OMP_NUM_THREADS=1: threads that wait count, too).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bessemer.encoders.encoder import OUTPUTS, Output
from bessemer.encoders.load import load_encoder
from bessemer.encoders.sparse_start import with_heads
from clocks import Took, took
from machine import machine
from results import ROOT, with_section
from texts import docstring_texts
from unified_docs import SECTION, lines
from unified_peer import peer
from unified_scores import score
from unified_storage import storage
from unified_training import sparse, train

NEED_DATA = ("peer", "storage")
TARGET_RATIO = 1.15


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
    times: dict[str, list[Took]] = {name: [] for name in asked}
    for _ in range(arguments.rounds):
        for name, outputs in asked.items():
            times[name].append(took(lambda outputs=outputs: encoder.encode_passages(texts, outputs))[0])
    medians = {name: statistics.median(one.seconds for one in rounds) for name, rounds in times.items()}
    of_cpu = {name: statistics.median(one.cpu_seconds for one in rounds) for name, rounds in times.items()}
    return {
        "n_texts": len(texts),
        "mean_tokens": statistics.fmean(len(ids) for ids in encoder.tokenize(texts, "passage")),
        "texts_per_second": {name: len(texts) / median for name, median in medians.items()},
        "ratio_to_dense": {name: median / medians["dense"] for name, median in medians.items()},
        "cpu_ratio_to_dense": {name: median / of_cpu["dense"] for name, median in of_cpu.items()},
        "seconds": {name: [one.seconds for one in rounds] for name, rounds in times.items()},
        "target": {"ratio_to_dense": TARGET_RATIO},
        "bf16_used": encoder.bf16,
    }


SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "encode": encode,
    "score": score,
    "sparse": sparse,
    "train": train,
    "peer": peer,
    "storage": storage,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"the folder of `beir`; needed by {', '.join(NEED_DATA)}")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="comma-separated")
    parser.add_argument("--n-texts", type=int, default=1_000, help="encode")
    parser.add_argument("--pairs", type=int, default=4_096, help="score")
    parser.add_argument("--matrix-batch", type=int, default=256, help="score: pairs of a matrix (1.5 GB at 256)")
    parser.add_argument("--matrix-batches", type=int, default=2, help="score: of all, for the way by matrices")
    parser.add_argument("--plain-texts", type=int, default=5, help="sparse: of 80, for the plain path (2 GB)")
    parser.add_argument("--batch", type=int, default=64, help="train: queries of a step")
    parser.add_argument("--peer-batch", type=int, default=16, help="peer: queries of a step")
    parser.add_argument("--rounds", type=int, default=3, help="of all sections but storage")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "unified.json")
    parser.add_argument("--write-docs", action="store_true", help="put the numbers into docs/unified.md")
    arguments = parser.parse_args()
    names = arguments.sections.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown sections {', '.join(unknown)}; known: {', '.join(SECTIONS)}")

    if not arguments.data and (needing := [name for name in names if name in NEED_DATA]):
        parser.error(f"--data is needed by {', '.join(needing)}")

    report = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {}
    for name in names:
        facts = machine()
        report[name] = {**SECTIONS[name](arguments), "machine": facts}
        print(json.dumps({name: report[name]}, indent=2), flush=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if arguments.write_docs:
        page = ROOT / "docs" / "unified.md"
        page.write_text(with_section(page.read_text(encoding="utf-8"), SECTION, lines(report)), encoding="utf-8")


if __name__ == "__main__":
    main()
