"""A segment: the files of passages that came in together. They are written once and never changed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.durable import flush
from bessemer.encoders.encoder import Encoded
from bessemer.errors import ArtifactError
from bessemer.search.encoded_texts import join_texts, texts_of
from bessemer.search.stores.check import TERMS
from bessemer.search.stores.lane_files import read_lanes, read_sparse, write_lanes, write_sparse
from bessemer.search.stores.store import Layout, Stored
from bessemer.types import Passage

VECTORS, PASSAGES, ROWS, BM25 = "vectors.npy", "passages.jsonl", "rows.json", "bm25.npz"
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile)
_AT_ONCE = 1 << 20
_WRITTEN = tuple(field.name for field in fields(Passage) if field.name != "withheld")

Files = dict[str, tuple[int, int]]
"""name -> (bytes, CRC-32)"""
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segment:
    """Row i of every part is one passage; ``lines[i]`` is its JSON, parsed when somebody asks for it.

    All is read at the start, the dense vectors as a memory map: a segment that its folder has lost to a merge is
    still whole for those who opened it before.
    """

    passage_ids: list[str]
    text_hashes: list[str]
    lines: list[bytes]
    encoded: Encoded
    bm25: sp.csr_array

    def __len__(self) -> int:
        return len(self.passage_ids)

    def passage(self, row: int) -> Passage:
        values = self.values(row)
        return Passage(**{**values, "headings": tuple(values["headings"])})

    def values(self, row: int) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.lines[row])
        return values

    def of(self, rows: Rows) -> Segment:
        chosen = rows.tolist()
        return Segment(
            [self.passage_ids[row] for row in chosen],
            [self.text_hashes[row] for row in chosen],
            [self.lines[row] for row in chosen],
            texts_of(self.encoded, rows),
            self.bm25[rows].tocsr(),
        )


def segment_of(batch: Stored) -> Segment:
    """Withheld spans are a matter of training: what is served is whole."""
    return Segment(
        [passage.passage_id for passage in batch.passages],
        list(batch.text_hashes),
        [_line(replace(passage, withheld=())) for passage in batch.passages],
        batch.encoded,
        in_terms(batch.bm25),
    )


def joined_segments(parts: Sequence[Segment]) -> Segment:
    return Segment(
        [passage_id for part in parts for passage_id in part.passage_ids],
        [text_hash for part in parts for text_hash in part.text_hashes],
        [line for part in parts for line in part.lines],
        join_texts([part.encoded for part in parts]),
        sp.vstack([part.bm25 for part in parts], format="csr"),
    )


def in_terms(weights: sp.csr_array) -> sp.csr_array:
    """(n, any) as (n, TERMS), entries of one term added up."""
    rows = sp.csr_array((weights.data, weights.indices, weights.indptr), shape=(weights.shape[0], TERMS))
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows.astype(np.float32, copy=False)


def write_segment(folder: Path, segment: Segment) -> Files:
    """Into ``folder``, which is made; on disk upon return."""
    assert segment.encoded.dense is not None
    folder.mkdir()
    np.save(folder / VECTORS, segment.encoded.dense, allow_pickle=False)
    write_lanes(folder, segment.encoded)
    write_sparse(folder / BM25, segment.bm25)
    (folder / PASSAGES).write_bytes(b"".join(line + b"\n" for line in segment.lines))
    rows = {"passage_ids": segment.passage_ids, "text_hashes": segment.text_hashes}
    (folder / ROWS).write_text(json.dumps(rows), encoding="utf-8")
    files = {path.name: _stamp(path) for path in sorted(folder.iterdir())}
    for path in (*folder.iterdir(), folder):
        flush(path)
    return files


def mapped(folder: Path, segment: Segment) -> Segment:
    """``segment`` with the dense vectors that were written in place of those in memory."""
    vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    return replace(segment, encoded=replace(segment.encoded, dense=vectors))


def write_bm25(folder: Path, name: str, weights: sp.csr_array) -> tuple[int, int]:
    """Weights of a whole segment in a file of their own, beside the old ones."""
    write_sparse(folder / name, weights)
    flush(folder / name)
    flush(folder)
    return _stamp(folder / name)


def read_segment(folder: Path, files: Files, bm25: str, layout: Layout) -> Segment:
    """Raises ArtifactError where a file is missing or damaged, or where they do not fit together."""
    try:
        for name, stamp in files.items():
            if _stamp(folder / name) != tuple(stamp):
                raise ValueError(f"{name} is not what was written")
        rows = json.loads((folder / ROWS).read_text(encoding="utf-8"))
        passage_ids, text_hashes = rows["passage_ids"], rows["text_hashes"]
        lines = (folder / PASSAGES).read_bytes().split(b"\n")[:-1]
        n = len(passage_ids)
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        if vectors.shape != (n, layout.dimension) or vectors.dtype != np.float32 or len(lines) != n:
            raise ValueError(f"{n} ids, {len(lines)} passages, vectors {vectors.dtype} {vectors.shape}")
        if not all(np.isfinite(vectors[start : start + 8192]).all() for start in range(0, n, 8192)):
            raise ValueError("vectors hold NaN or infinite values")
        lanes = read_lanes(folder, layout, n)
        weights = read_sparse(folder / bm25, n)
    except DAMAGE as error:
        raise ArtifactError(f"{folder}: the index is damaged ({error}); build it again") from None
    return Segment(passage_ids, text_hashes, lines, replace(lanes, dense=vectors), in_terms(weights))


def _stamp(path: Path) -> tuple[int, int]:
    size = crc = 0
    with path.open("rb") as file:
        while block := file.read(_AT_ONCE):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size, crc


def _line(passage: Passage) -> bytes:
    values = {name: getattr(passage, name) for name in _WRITTEN}
    return json.dumps(values | {"metadata": dict(passage.metadata)}).encode("ascii")
