"""What each way of choosing negatives gives in training: mined, trained with, measured on dev. No test split is read.

    python benchmarks/strategies.py --data $BESSEMER_DATA --out out/strategies

Every variant runs through `bessemer negatives` and `bessemer finetune`, one epoch each, nothing mixed with the base;
`bessemer evaluate --split dev` measures all of them over the whole corpus. Another seed draws other dev queries, other
train queries and another order. Runs what is neither there nor in the JSON yet, then writes benchmarks/strategies.json
and the tables between the marks of docs/negatives.md. About an hour in one thread.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kept_runs import ROOT, KeptRuns, commits_of, write_json
from results import with_section

SECTION = "strategies"
SEEDS = {"pubmedqa": (1, 2), "cmrc2018": (1, 2, 3, 4, 5)}
MEASURE = "nDCG@10"
SETS = {
    "pubmedqa": "--data $BESSEMER_DATA/beir/pubmedqa --model minilm",
    "cmrc2018": "--data $BESSEMER_DATA/beir/cmrc2018 --model $BESSEMER_DATA/models/zh-char-static",
}
SAMPLE = {"pubmedqa": ["--max-train-queries", "216"]}
"""Half of its train queries, to save time; mining is of all of them."""
NONE = "none but the batch's"
MINED = {
    "random": "--strategy random",
    "top_k, no margin": "--strategy top_k --relative-margin 0",
    "top_k": "--strategy top_k",
    "top_k, hybrid candidates": "--strategy top_k --candidates hybrid",
    "top_k, neighbours of the positive": "--strategy top_k --anchor positive",
    "simans": "--strategy simans",
    "bm25": "--strategy bm25",
    "same_document": "--strategy same_document",
    "mixed": "--strategy mixed",
}
"""Flags that `negatives` and `finetune` have in common."""
TRAINED = {
    NONE: "--n-negatives 0",
    **MINED,
    "top_k, refreshed every quarter": "--strategy top_k --refresh-steps 0.25",
    "top_k, frozen passages, 32 live": "--frozen-passages --n-negatives 32",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", default=Path("out/strategies"), type=Path)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, help="at most so many of each")
    given = parser.parse_args()
    file = ROOT / "benchmarks" / "strategies.json"
    runs = KeptRuns(given.out, file)
    for name in given.sets:
        for seed in SEEDS[name][: given.seeds]:
            if f"{name}-{seed}" not in runs:
                runs.keep(f"{name}-{seed}", {"set": name, "seed": seed, **measured(name, seed, given.data, given.out)})
    write_json(file, {"runs": runs.all()})
    page = ROOT / "docs" / "negatives.md"
    lines = [f"Measured at commit {commits_of(runs.all())}."]
    for name in SETS:
        lines += table(name, [run for run in runs.all().values() if run["set"] == name])
    page.write_text(with_section(page.read_text(), SECTION, lines))


def measured(name: str, seed: int, data: Path, out: Path) -> dict[str, Any]:
    """Every variant."""
    flags = shlex.split(SETS[name].replace("$BESSEMER_DATA", str(data)))
    own = ["--seed", str(seed), "--workspace", str(out / f"{name}.workspace")]
    folder = out / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    common = [*flags, *own]
    mined = {variant: mine(folder / slug(variant), [*common, *shlex.split(MINED[variant])]) for variant in MINED}
    sampled = [*common, *SAMPLE.get(name, [])]
    trained = {
        variant: train(folder / slug(variant), [*sampled, *shlex.split(TRAINED[variant])]) for variant in TRAINED
    }
    found = evaluate(folder, flags, own)
    shutil.rmtree(folder)
    return {"dev": found, "mined": mined, "trained": trained}


def slug(variant: str) -> str:
    return variant.replace(",", "").replace("'", "").replace(" ", "-")


def mine(target: Path, flags: Sequence[str]) -> dict[str, Any]:
    file = target.with_suffix(".mined.json")
    if not file.exists():
        bessemer("negatives", *flags, "--out", str(target.with_suffix(".jsonl")), "--json", str(file))
    mined: dict[str, Any] = json.loads(file.read_text())
    return {key: value for key, value in mined.items() if key != "out"}  # a path of this machine


def train(target: Path, flags: Sequence[str]) -> dict[str, Any]:
    if not (target / "training.json").exists():
        steps = ["--num-train-epochs", "1", "--eval-steps", "0.5", "--no-interpolation"]
        bessemer("finetune", *flags, *steps, "--out", str(target))
    training = json.loads((target / "training.json").read_text())
    return {key: training[key] for key in ("examples", "steps", "seconds", "negatives") if key in training}


def evaluate(folder: Path, flags: Sequence[str], own: Sequence[str]) -> dict[str, float]:
    _, data, _, base = flags
    models = {variant: str(folder / slug(variant)) for variant in TRAINED}
    systems = [f"s{place}=dense:{model}" for place, model in enumerate([base, *models.values()])]
    file = folder / "dev.json"
    named = [word for system in systems for word in ("--system", system)]
    bessemer("evaluate", "--data", data, *named, "--split", "dev", *own, "--json", str(file))
    measured = json.loads(file.read_text())["systems"]
    return {name: measured[f"s{place}"]["measures"][MEASURE] for place, name in enumerate(["base", *models])}


def bessemer(*arguments: str) -> None:
    print("+ bessemer", shlex.join(arguments), flush=True)
    subprocess.run([str(Path(sys.executable).with_name("bessemer")), *arguments, "--quiet"], check=True)


def table(name: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean and standard deviation over seeds, and of the difference to no hard negatives within a seed."""
    if not runs:
        return []
    flags = f"{' '.join([SETS[name], *SAMPLE.get(name, [])])} --num-train-epochs 1 --eval-steps 0.5 --no-interpolation"
    head = f"**{name}**, dev, seeds {', '.join(str(run['seed']) for run in runs)}:"
    lines = ["", head, "", f"    bessemer finetune {flags} ...", "", f"| negatives | {MEASURE} | - none | flags |"]
    lines.append("|---|---|---|---|")
    for variant in ("base", *TRAINED):
        values = [run["dev"][variant] for run in runs]
        gains = [run["dev"][variant] - run["dev"][NONE] for run in runs]
        told = "" if variant in ("base", NONE) else spread(gains, "+.4f")
        shown = f"`{TRAINED[variant]}`" if variant in TRAINED else ""
        lines.append(f"| {variant} | {spread(values, '.4f')} | {told} | {shown} |")
    return lines


def spread(values: Sequence[float], written: str) -> str:
    mean = f"{statistics.fmean(values):{written}}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.4f}"


if __name__ == "__main__":
    main()
