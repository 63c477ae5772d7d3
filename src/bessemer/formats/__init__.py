"""Readers and writers of judged data. `load_collection` takes whatever ``--data`` takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bessemer.errors import DataError, Problem
from bessemer.formats.beir import read_beir, write_beir
from bessemer.formats.columns import Columns, infer_columns, read_columns, write_columns
from bessemer.formats.hf import parquet_files, read_hf
from bessemer.formats.jsonl import read_bge_jsonl, write_bge_jsonl
from bessemer.formats.lines import read_jsonl
from bessemer.formats.llamaindex import read_llamaindex, write_llamaindex
from bessemer.formats.loaded import Loaded
from bessemer.formats.pairs import LabelledPair, ScoredPair, Triplet, collection_from_triplets, read_pairs

__all__ = [
    "Columns",
    "LabelledPair",
    "Loaded",
    "ScoredPair",
    "Triplet",
    "load_collection",
    "read_beir",
    "read_bge_jsonl",
    "read_columns",
    "read_hf",
    "read_llamaindex",
    "read_pairs",
    "write_beir",
    "write_bge_jsonl",
    "write_columns",
    "write_llamaindex",
]

HUB_PREFIX = "hf:"
_DATASET_SUFFIXES = (".parquet", ".arrow")
_BGE_NAMES = ("pos", "neg", "teacher_scores")
_LLAMAINDEX = re.compile(r'\ufeff?\s*\{\s*(?:$|"(?:queries|corpus|relevant_docs|mode)"\s*:)')


def load_collection(
    path: str | Path, *, seed: int = 42, require: Sequence[str] = (), columns: Columns | None = None
) -> Loaded:
    """Read a BEIR folder, a JSON lines file (BGE or sentence-transformers columns), triplets (.tsv), LlamaIndex
    JSON, Parquet or Arrow, or ``hf:NAME[:SUBSET]``; what a file is, is told by its name and first line.

    ``require`` names the splits that the caller cannot do without (``("train", "test")`` to adapt, ``("test",)`` to
    evaluate, none to index). ``columns`` maps the columns of other layouts. Raises DataError with all problems of the
    input at once.
    """
    name = str(path)
    if name.startswith(HUB_PREFIX):
        hub_name, _, subset = name.removeprefix(HUB_PREFIX).partition(":")
        return read_hf(hub_name, columns, subset=subset or None, seed=seed, require=require)
    path = Path(path)
    if path.is_dir():
        if _holds_dataset(path):
            return read_hf(path, columns, seed=seed, require=require)
        return read_beir(path, seed=seed, require=require)
    if not path.exists():
        raise DataError([Problem(name, None, "", "no such file or folder", "check --data")])
    if path.suffix in _DATASET_SUFFIXES:
        return read_hf(path, columns, seed=seed, require=require)
    if path.suffix == ".tsv":
        return collection_from_triplets(path, seed=seed, require=require)
    if path.suffix == ".json" and _is_llamaindex(path):
        return read_llamaindex(path, seed=seed, require=require)
    if columns or _is_columns(path):
        return read_columns(path, columns, seed=seed, require=require)
    return read_bge_jsonl(path, seed=seed, require=require)


def _holds_dataset(folder: Path) -> bool:
    if (folder / "corpus.jsonl").exists():
        return False
    saved = any((folder / name).exists() for name in ("dataset_dict.json", "dataset_info.json"))
    return saved or bool(parquet_files(folder))


def _is_llamaindex(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return _LLAMAINDEX.match(stream.readline(200)) is not None
    except OSError:  # the reader will say so
        return False


def _is_columns(path: Path) -> bool:
    """Whether the first good line has sentence-transformers columns and none of BGE's."""
    _, values = next(read_jsonl(path, []), (0, {}))
    return infer_columns(values) is not None and not any(name in values for name in _BGE_NAMES)
