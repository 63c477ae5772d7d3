"""One model per task, or one for all? Three collections as three tasks, tuned alone and together, measured on test.

    python benchmarks/tasks.py --data $BESSEMER_DATA --out out/tasks

Every variant has the default recipe for one epoch; nothing is chosen by the figures. Runs what is not done yet, then
writes benchmarks/tasks.json and prints the table of docs/tasks.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
TASKS = {"pubmedqa": "qa", "toollens": "tool", "or_sharc": "convsearch"}
MAX_QUERIES = 800
SAMPLINGS = ("size", "round_robin")
EPOCHS = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", default=Path("out/tasks"), type=Path)
    arguments = parser.parse_args()
    beir, out = arguments.data / "beir", arguments.out
    out.mkdir(parents=True, exist_ok=True)
    for name, task in TASKS.items():
        train(out, f"alone, no prompts: {name}", {"data": str(beir / name)})
        train(out, f"alone: {name}", {"data": str(beir / name), "task": task})
    entries = [{"data": str(beir / name), "task": task} for name, task in TASKS.items()]
    for sampling in SAMPLINGS:
        train(out, f"together, {sampling}", {"tasks": entries}, task_sampling=sampling)
    rows = [row(out, beir, name, variant) for name in TASKS for variant in variants(name)]
    (HERE / "tasks.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(table(rows)))


def variants(name: str) -> list[str]:
    together = [f"together, {sampling}" for sampling in SAMPLINGS]
    return [f"alone, no prompts: {name}", f"alone: {name}", *together]


def slug(variant: str) -> str:
    return variant.replace(", ", "-").replace(": ", "-").replace(" ", "-")


def train(out: Path, variant: str, what: dict[str, Any], **settings: Any) -> None:
    target = out / slug(variant)
    if (target / "training.json").exists():
        return
    finetune = {"num_train_epochs": EPOCHS, "max_train_queries": MAX_QUERIES, **settings}
    config = {"model": "minilm", "out": str(target), "workspace": str(out / "workspace"), **what, "finetune": finetune}
    file = out / f"{slug(variant)}.yaml"
    file.write_text(yaml.safe_dump(config))
    bessemer("finetune", "--config", str(file))


def row(out: Path, beir: Path, name: str, variant: str) -> dict[str, Any]:
    file = out / f"{slug(variant)}.on-{name}.json"
    if not file.exists():
        task = [] if "no prompts" in variant else ["--task", TASKS[name]]
        systems = ["--system", "base=dense:minilm", "--system", f"tuned=dense:{out / slug(variant)}"]
        where = ["--workspace", str(out / "workspace"), "--json", str(file)]
        bessemer("evaluate", "--data", str(beir / name), *systems, *task, *where)
    measured = json.loads(file.read_text())
    (difference,) = (c for c in measured["comparisons"] if c["measure"] == "nDCG@10" and c["treatment"] == "tuned")
    return {
        "set": name,
        "variant": variant.removesuffix(f": {name}"),
        "base": measured["systems"]["base"]["measures"]["nDCG@10"],
        "tuned": measured["systems"]["tuned"]["measures"]["nDCG@10"],
        "ci": [difference["ci_low"], difference["ci_high"]],
    }


def bessemer(*arguments: str) -> None:
    print("+ bessemer", *arguments, flush=True)
    subprocess.run([str(Path(sys.executable).with_name("bessemer")), *arguments], check=True)


def table(rows: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(row["variant"] for row in rows))
    found = {(row["variant"], row["set"]): row["tuned"] for row in rows}
    base = {row["set"]: row["base"] for row in rows}
    head = ["| nDCG@10 on test | " + " | ".join(TASKS) + " |", "|---|" + "---|" * len(TASKS)]
    lines = [f"| {name} | " + " | ".join(f"{found[name, of]:.4f}" for of in TASKS) + " |" for name in names]
    return [*head, "| base | " + " | ".join(f"{base[of]:.4f}" for of in TASKS) + " |", *lines]


if __name__ == "__main__":
    main()
