"""What our checkpoints hold beside the library's own files: negatives that were mined while training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from bessemer.errors import ArtifactError
from bessemer.types import HardNegatives

NEGATIVES_FILE = "negatives.json"


def write_negatives(negatives: Sequence[HardNegatives], file: Path) -> None:
    file.write_text(json.dumps([dataclasses.asdict(row) for row in negatives]), encoding="utf-8")


def read_negatives(file: Path) -> list[HardNegatives]:
    """Raises ArtifactError where the file is missing or damaged."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        return [
            HardNegatives(
                **row
                | {key: tuple(row[key]) for key in ("passage_ids", "scores")}
                | {"probabilities": None if row["probabilities"] is None else tuple(row["probabilities"])}
            )
            for row in rows
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"{file}: damaged ({error}); delete the checkpoint's folder, an earlier one serves"
        ) from None
