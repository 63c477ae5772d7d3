"""One model per task, or one for all? Three collections as three tasks, tuned alone and together, measured on test.

    python benchmarks/tasks.py --data $BESSEMER_DATA --out out/tasks [--write-docs]

Every variant has the default recipe for one epoch on at most 800 train queries of a task; nothing is chosen by the
figures. nDCG@10 of `bessemer evaluate`, with 95% intervals of the difference to the base. Every run is kept; what is
there, or in the JSON, is not run again. Then benchmarks/tasks.json is written and the table printed; --write-docs puts
it into docs/tasks.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kept_runs import ROOT, KeptRuns, commits_of, write_json
from results import with_section

TASKS = {"pubmedqa": "qa", "toollens": "tool", "or_sharc": "convsearch"}
MAX_QUERIES = 800
SAMPLINGS = ("size", "round_robin")
EPOCHS = 1
SECTION = "tasks"
BARE, ALONE, TOGETHER = "one model each, no prompts", "one model each", "one for all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", default=Path("out/tasks"), type=Path)
    parser.add_argument("--only-written", action="store_true", help="run nothing: write what is there")
    parser.add_argument("--write-docs", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = ROOT / "benchmarks" / "tasks.json"
    runs, beir = KeptRuns(given.out, file), given.data / "beir"
    if not given.only_written:
        run_all(given.out, beir, runs)
    write_json(file, {"max_queries": MAX_QUERIES, "epochs": EPOCHS, "runs": runs.all()})
    lines = section(runs.all())
    print("\n".join(lines))
    if given.write_docs:
        page = ROOT / "docs" / "tasks.md"
        page.write_text(with_section(page.read_text(encoding="utf-8"), SECTION, lines), encoding="utf-8")


def run_all(out: Path, beir: Path, runs: KeptRuns) -> None:
    entries = {name: {"data": str(beir / name), "task": task} for name, task in TASKS.items()}
    for sampling in SAMPLINGS:
        tasks = {"tasks": [*entries.values()]}
        run_once(out, beir, runs, f"{TOGETHER}, {sampling}", [*TASKS], tasks, task_sampling=sampling)
    for name, entry in entries.items():
        run_once(out, beir, runs, ALONE, [name], entry)
        run_once(out, beir, runs, BARE, [name], {"data": entry["data"]})


def run_once(
    out: Path, beir: Path, runs: KeptRuns, variant: str, names: Sequence[str], what: Mapping[str, Any], **settings: Any
) -> None:
    """Train one model and measure it on its sets."""
    run = f"{variant}/{'+'.join(names)}"
    if run in runs:
        return
    model, file = out / "model", out / "config.yaml"
    finetune = {"num_train_epochs": EPOCHS, "max_train_queries": MAX_QUERIES, **settings}
    config = {"model": "minilm", "out": str(model), "workspace": str(out / "workspace"), **what, "finetune": finetune}
    file.write_text(yaml.safe_dump(config))
    shutil.rmtree(model, ignore_errors=True)
    bessemer("finetune", "--config", file)
    measured = {name: measure(out, beir / name, model, "" if variant == BARE else TASKS[name]) for name in names}
    runs.keep(run, {"variant": variant, "measured": measured})
    shutil.rmtree(model)


def measure(out: Path, beir: Path, model: Path, task: str) -> dict[str, Any]:
    file = out / "evaluation.json"
    prompts = ["--task", task] if task else []
    systems = ["--system", "base=dense:minilm", "--system", f"tuned=dense:{model}"]
    bessemer("evaluate", "--data", beir, *systems, *prompts, "--workspace", out / "workspace", "--json", file)
    found = json.loads(file.read_text())
    (difference,) = (c for c in found["comparisons"] if c["measure"] == "nDCG@10" and c["treatment"] == "tuned")
    return {
        **{name: system["measures"]["nDCG@10"] for name, system in found["systems"].items()},
        "interval": [difference["ci_low"], difference["ci_high"]],
    }


def bessemer(*arguments: object) -> None:
    print("+ bessemer", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "bessemer", *map(str, arguments)], check=True)


def section(runs: Mapping[str, Any]) -> list[str]:
    variants = [BARE, ALONE, *(f"{TOGETHER}, {sampling}" for sampling in SAMPLINGS)]
    found = {(run["variant"], name): of for run in runs.values() for name, of in run["measured"].items()}
    base = {name: of["base"] for (_, name), of in found.items()}
    lines = [
        "Written by `python benchmarks/tasks.py --data $BESSEMER_DATA --write-docs`, which says how; all figures:",
        f"`benchmarks/tasks.json`. nDCG@10 on test, minilm, {EPOCHS} epoch on at most {MAX_QUERIES} train queries of",
        "each task, one seed; in brackets the 95% interval of the difference to the base. Measured at commit "
        f"{commits_of(dict(runs))}.",
        "",
        f"| | {' | '.join(f'{name} ({task})' for name, task in TASKS.items())} |",
        "|---|" + "---|" * len(TASKS),
        f"| base | {' | '.join(f'{base[name]:.4f}' if name in base else '' for name in TASKS)} |",
    ]
    return lines + [
        f"| {variant} | {' | '.join(in_words(found.get((variant, name))) for name in TASKS)} |" for variant in variants
    ]


def in_words(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else "{:.4f} [{:+.4f}, {:+.4f}]".format(found["tuned"], *found["interval"])


if __name__ == "__main__":
    main()
