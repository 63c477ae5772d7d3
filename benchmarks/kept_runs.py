"""Runs that take hours, one file each: what is there is not run again, and what a report holds counts as there.

So a report of some runs, committed, is where another machine goes on.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENDING = ".run.json"


class KeptRuns:
    """Below ``folder``, by name; ``report``: JSON with an earlier folder's under ``runs``."""

    def __init__(self, folder: Path, report: Path) -> None:
        self._folder = folder
        before = json.loads(report.read_text(encoding="utf-8"))["runs"] if report.exists() else {}
        for name, run in before.items():
            if name not in self:
                write_json(self._file(name), run)

    def __contains__(self, name: str) -> bool:
        return self._file(name).exists()

    def keep(self, name: str, run: dict[str, Any]) -> None:
        """With the commit that it was made at."""
        write_json(self._file(name), {**run, "commit": commit()})

    def all(self) -> dict[str, Any]:
        """By name."""
        files = sorted(self._folder.rglob(f"*{ENDING}"))
        names = [file.relative_to(self._folder).as_posix().removesuffix(ENDING) for file in files]
        return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in zip(names, files, strict=True)}

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{ENDING}"


def commit() -> str:
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    return head.stdout.strip()


def commits_of(runs: dict[str, Any]) -> str:
    return ", ".join(sorted({run["commit"] for run in runs.values()}))


def write_json(file: Path, value: Any) -> None:
    """As a whole or not at all: what is there counts as done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(file)
