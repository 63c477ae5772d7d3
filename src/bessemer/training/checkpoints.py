"""Checkpoints: which one is whole, and what ours hold beside the library's files, negatives mined while training."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bessemer.errors import ArtifactError
from bessemer.types import HardNegatives

NEGATIVES_FILE = "negatives.json"
STATE_FILE = "trainer_state.json"


def write_negatives(of_tasks: Sequence[Sequence[HardNegatives]], file: Path) -> None:
    file.write_text(json.dumps([[dataclasses.asdict(row) for row in rows] for rows in of_tasks]), encoding="utf-8")


def read_negatives(file: Path) -> list[list[HardNegatives]]:
    """Of each task, in order. Raises ArtifactError where the file is missing or damaged."""
    try:
        return [[_row(row) for row in rows] for rows in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"{file}: damaged ({error}); delete the checkpoint's folder, an earlier one serves"
        ) from None


def _row(row: dict[str, Any]) -> HardNegatives:
    return HardNegatives(
        **row
        | {key: tuple(row[key]) for key in ("passage_ids", "scores")}
        | {"probabilities": None if row["probabilities"] is None else tuple(row["probabilities"])}
    )


def last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end: the trainer's state is its last file."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for checkpoint in checkpoints:
        try:
            json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return os.fspath(checkpoint)
    return None
