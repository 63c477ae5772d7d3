"""The default recipe on dev: epochs, batch size, temperature and learning rate, one change at a time. No test split
is read.

    python benchmarks/recipe.py --data $BESSEMER_DATA --out out/recipe

Runs what is not done yet, then writes benchmarks/recipe.json. Run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SETS = ("or_sharc", "pubmedqa")
VARIANTS: dict[str, dict[str, str]] = {
    "1 epoch": {"num-train-epochs": "1"},
    "1 epoch, batch 32": {"num-train-epochs": "1", "per-device-train-batch-size": "32"},
    "2 epochs": {"num-train-epochs": "2"},
    "1 epoch, batch 32, no hard negatives": {
        "num-train-epochs": "1",
        "per-device-train-batch-size": "32",
        "n-negatives": "0",
    },
    "1 epoch, batch 32, temperature 0.02": {
        "num-train-epochs": "1",
        "per-device-train-batch-size": "32",
        "temperature": "0.02",
    },
    "1 epoch, batch 32, learning rate 2e-5": {
        "num-train-epochs": "1",
        "per-device-train-batch-size": "32",
        "learning-rate": "2e-5",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", default=Path("out/recipe"), type=Path)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    arguments = parser.parse_args()
    for variant in arguments.only:
        for name in arguments.sets:
            run(name, variant, arguments.data, arguments.out)
    rows = [
        row
        for name in SETS
        for variant in VARIANTS
        if (row := read(name, variant, folder(arguments.out, name, variant)))
    ]
    (HERE / "recipe.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['set']:10} {row['variant']:40} base {row['base']:.4f} best {row['best']:.4f} last {row['last']:.4f}"
        )


def folder(out: Path, name: str, variant: str) -> Path:
    return out / f"{name} {variant}".replace(",", "").replace(" ", "_")


def run(name: str, variant: str, data: Path, out: Path) -> None:
    target = folder(out, name, variant)
    if (target / "training.json").exists():
        return
    flags = [word for key, value in VARIANTS[variant].items() for word in (f"--{key}", value)]
    command = ["finetune", "--data", str(data / "beir" / name), "--model", "minilm", "--eval-steps", "0.5", *flags]
    command += ["--out", str(target), "--workspace", str(out / f"{name}.workspace")]
    print("+ bessemer", " ".join(command), flush=True)
    subprocess.run([str(Path(sys.executable).with_name("bessemer")), *command], check=True)


def read(name: str, variant: str, target: Path) -> dict[str, Any] | None:
    if not (target / "training.json").exists():
        return None
    training = json.loads((target / "training.json").read_text())
    curve = [point["nDCG@10"] for point in training["dev_curve"]]
    alphas = training["interpolation"]["candidates"]
    return {
        "set": name,
        "variant": variant,
        "base": curve[0],
        "best": max(curve[1:]),
        "last": curve[-1],
        "dev_curve": training["dev_curve"],
        "alphas": {f"{candidate['alpha']:g}": candidate["dev"] for candidate in alphas},
        "standard_error_of_base_difference": training["interpolation"]["base"]["standard_error"],
        "seconds": training["seconds"],
        "examples_per_second": training["examples_per_second"],
        "dev_pool": training["dev_pool"],
    }


if __name__ == "__main__":
    main()
