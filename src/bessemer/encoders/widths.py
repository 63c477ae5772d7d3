"""Widths at which a model's vectors serve when cut (Matryoshka, 2205.13147), in a file beside its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bessemer.encoders.cpu.manifest import is_build
from bessemer.encoders.load import model_location

FILE = "matryoshka.json"


def write_widths(folder: Path, widths: Sequence[int]) -> None:
    """Into a model's folder; nothing where there are none."""
    if widths:
        (folder / FILE).write_text(json.dumps({"matryoshka_dims": sorted(widths)}) + "\n", encoding="utf-8")


def widths_of(model: str) -> tuple[int, ...]:
    """The widths that a model, or the source of a CPU build, was trained for beside its own, rising; none where its
    folder names none."""
    try:
        folder = model if is_build(model) else model_location(model)
        found = json.loads(Path(folder, FILE).read_text(encoding="utf-8"))["matryoshka_dims"]
        return tuple(sorted(int(width) for width in found))
    except (OSError, ValueError, KeyError, TypeError):
        return ()
