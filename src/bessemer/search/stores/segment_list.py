"""Which segments a generation has, and which of their rows are dead: one small file, replaced as a whole."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.durable import replace_file
from bessemer.errors import ArtifactError
from bessemer.search.stores.segment import BM25, DAMAGE, Files, Rows, Segment, read_segment
from bessemer.search.stores.store import Layout

LIST = "segments.json"


@dataclass(slots=True)
class Listed:
    """A segment in the list. ``bm25``: the file of its weights; ``dead``: (n,) what was deleted or superseded."""

    files: Files
    segment: Segment
    dead: NDArray[np.bool_]
    bm25: str = BM25

    @property
    def live(self) -> Rows:
        return np.flatnonzero(~self.dead)

    @property
    def n_live(self) -> int:
        return len(self.dead) - int(self.dead.sum())

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.files.values())


@dataclass(slots=True)
class SegmentList:
    """``serial``: of the last name given, so that no name is ever given twice."""

    layout: Layout
    segments: dict[str, Listed] = field(default_factory=dict)
    serial: int = 0

    def next_serial(self) -> int:
        self.serial += 1
        return self.serial


def write_list(folder: Path, content: SegmentList) -> None:
    rows = [
        {"name": name, "files": one.files, "bm25": one.bm25, "n": len(one.dead), "dead": _packed(one.dead)}
        for name, one in content.segments.items()
    ]
    value = {"layout": asdict(content.layout), "serial": content.serial, "segments": rows}
    replace_file(folder / LIST, json.dumps(value).encode("ascii"))


def read_list(folder: Path) -> SegmentList:
    """With all segments. Raises ArtifactError where it is missing, damaged, or where its segments are."""
    while True:
        content = _read(folder)
        try:
            return _opened(folder, content)
        except ArtifactError:
            if _read(folder) == content:  # else a writer merged segments away while they were opened
                raise


def named_files(folder: Path) -> Iterable[Path]:
    """What the list names, relative to ``folder``; nothing where there is no list that can be read."""
    try:
        value = json.loads(_read(folder))
        return {Path(row["name"]) / name for row in value["segments"] for name in row["files"]}
    except (ArtifactError, *DAMAGE):
        return ()


def _read(folder: Path) -> bytes:
    try:
        return (folder / LIST).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{folder}: no finished index ({error.strerror}: {LIST}); build it again") from None


def _opened(folder: Path, content: bytes) -> SegmentList:
    try:
        value = json.loads(content)
        layout = Layout(**value["layout"])
        segments = {row["name"]: _listed(folder, row, layout) for row in value["segments"]}
        return SegmentList(layout, segments, int(value["serial"]))
    except DAMAGE as error:
        raise ArtifactError(f"{folder}: the index is damaged ({LIST}: {error}); build it again") from None


def _listed(folder: Path, row: dict[str, Any], layout: Layout) -> Listed:
    name, bm25, files = row["name"], row["bm25"], {key: (size, crc) for key, (size, crc) in row["files"].items()}
    if any(Path(part).name != part for part in (name, bm25, *files)):
        raise ValueError(f"{name!r} is no name of a segment")
    segment = read_segment(folder / name, files, bm25, layout)
    if len(segment) != row["n"]:
        raise ValueError(f"{name} has {len(segment)} passages, not {row['n']}")
    return Listed(files, segment, _unpacked(row["dead"], row["n"]), bm25)


def _packed(mask: NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(mask).tobytes()).decode("ascii") if mask.any() else ""


def _unpacked(text: str, n: int) -> NDArray[np.bool_]:
    if not text:
        return np.zeros(n, dtype=bool)
    return np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=n).astype(bool)
