"""The measured tables of docs/negatives.md: `bessemer negatives --gradients` on real collections, three seeds each.

    python benchmarks/gradients.py --data $BESSEMER_DATA --out out/gradients

Runs what is not there yet, then writes benchmarks/gradients.json and the tables between the marks of the page.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "negatives.md"
BEGIN, END = "<!-- gradients -->", "<!-- /gradients -->"
SEEDS = (42, 43, 44)
RUNS = {
    "pubmedqa": "--data $BESSEMER_DATA/beir/pubmedqa --model minilm",
    "scifact": "--data $BESSEMER_DATA/beir/scifact --model minilm",
    "cmrc2018": "--data $BESSEMER_DATA/beir/cmrc2018 --model $BESSEMER_DATA/models/zh-char-static",
}
FIGURES = ("weight", "norm", "variance", "signal", "shared", "suspected")
WRITTEN = {"weight": ".4f", "shared": "z.2%", "suspected": ".1%"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", default=Path("out/gradients"), type=Path)
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    arguments = parser.parse_args()
    for name in arguments.only:
        for seed in SEEDS:
            run(name, seed, arguments.data, arguments.out)
    sets = {name: read(name, arguments.out) for name in arguments.only}
    (ROOT / "benchmarks" / "gradients.json").write_text(json.dumps(sets, indent=1, ensure_ascii=False) + "\n")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    tables = [line for name, runs in sets.items() for line in table(name, runs)]
    PAGE.write_text(before + "\n".join([BEGIN, *tables, "", END]) + rest.partition(END)[2])


def run(name: str, seed: int, data: Path, out: Path) -> None:
    answer = out / f"{name}-{seed}.json"
    if answer.exists():
        return
    flags = shlex.split(RUNS[name].replace("$BESSEMER_DATA", str(data)))
    files = ["--out", str(answer.with_suffix(".jsonl")), "--json", str(answer)]
    command = ["negatives", *flags, "--gradients", "--seed", str(seed), *files]
    print("+ bessemer", shlex.join(command), flush=True)
    workspace = ["--workspace", str(out / f"{name}.workspace")]
    subprocess.run([str(Path(sys.executable).with_name("bessemer")), *command, *workspace], check=True)


def read(name: str, out: Path) -> list[dict[str, Any]]:
    """Per seed the gradient rows, what was left out, and the day."""
    found = []
    for seed in SEEDS:
        file = out / f"{name}-{seed}.json"
        result = json.loads(file.read_text())
        day = datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat()
        found.append({"seed": seed, "day": day, "rows": result["gradients"], "notes": result["gradients_notes"]})
    return found


def table(name: str, runs: list[dict[str, Any]]) -> list[str]:
    """Medians over the seeds; of ``shared`` the lowest and highest as well."""
    command = f"bessemer negatives {RUNS[name]} --gradients --seed {SEEDS[0]} --out {name}.jsonl"
    queries = " / ".join(str(n) for n in sorted({run["rows"][0]["n_examples"] for run in runs}))
    lines = ["", f"**{name}**, {queries} queries, {max(run['day'] for run in runs)}:", "", f"    {command}", ""]
    lines += ["| | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for strategy in (row["strategy"] for row in runs[0]["rows"]):
        rows = [row for run in runs for row in run["rows"] if row["strategy"] == strategy]
        cells = [f"{median(row[key] for row in rows):{WRITTEN.get(key, '.3f')}}" for key in FIGURES]
        shares = [row["shared"] for row in rows]
        cells[FIGURES.index("shared")] += f" [{min(shares):z.2%}, {max(shares):z.2%}]"
        lines.append(f"| {strategy} | " + " | ".join(cells) + " |")
    notes = sorted({note for run in runs for note in run["notes"]})
    return [*lines, *(["", "Left out: " + "; ".join(notes) + "."] if notes else [])]


if __name__ == "__main__":
    main()
