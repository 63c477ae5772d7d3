"""The files of an index: one manifest, and beside it the *generation* (a subfolder) that it names.

A build writes a new generation and then replaces the manifest in one atomic step, so that at every moment there is the
old index or the new one, whole. What a killed build left behind, the next one removes.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from bessemer.encoders.encoder import Encoded
from bessemer.errors import ArtifactError, ConfigError
from bessemer.search.index_lanes import DENSE_LANES, read_lanes, write_lanes
from bessemer.types import Passage

MANIFEST = "manifest.json"
FORMAT = 1
_GENERATION = "generation-"


@dataclass(frozen=True)
class Stored:
    """What a generation holds; text i of ``encoded``, which has dense vectors at least, is passage i."""

    passages: list[Passage]
    text_hashes: list[str]
    encoded: Encoded


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One build at a time. Refuses a folder that holds something else, as old generations are deleted in it."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; choose a folder for the index")
    if folder.is_dir() and not (folder / ".lock").exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: holds files that are no index; choose an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock_file = (folder / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: another process is building this index; wait for it") from None
        yield


def write_generation(
    folder: Path, stored: Stored, manifest: Mapping[str, Any], write_more: Callable[[Path], None]
) -> None:
    """Write ``stored`` and what ``write_more`` adds, then make it the index. Upon OSError the old index stays."""
    generation = folder / f"{_GENERATION}{secrets.token_hex(8)}"
    generation.mkdir()
    try:
        assert stored.encoded.dense is not None
        np.save(generation / "vectors.npy", stored.encoded.dense, allow_pickle=False)
        write_lanes(generation, stored.encoded)
        with (generation / "passages.jsonl").open("w", encoding="utf-8") as file:
            for passage, text_hash in zip(stored.passages, stored.text_hashes, strict=True):
                file.write(json.dumps({**asdict(passage), "text_hash": text_hash}) + "\n")
        write_more(generation)
        sizes = {path.name: path.stat().st_size for path in sorted(generation.iterdir())}
        for path in (*generation.iterdir(), generation):
            _flush(path)
        content = {"format": FORMAT, **manifest, "generation": generation.name, "bytes": sizes}
        waiting = folder / f"{MANIFEST}.new"
        waiting.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        _flush(waiting)
        waiting.replace(folder / MANIFEST)
        _flush(folder)
    except OSError:
        shutil.rmtree(generation, ignore_errors=True)
        raise
    for path in folder.glob(f"{_GENERATION}*"):
        if path != generation and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its files checked by size. Raises ArtifactError when the index is not finished or damaged."""
    advice = "build it with `bessemer index`"
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}, this version reads {FORMAT}")
        generation = generation_folder(folder, manifest)
        for name, size in manifest["bytes"].items():
            if (generation / name).stat().st_size != size:
                raise ValueError(f"{name} has not {size} bytes")
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder}: no finished index ({error.filename} is not there); {advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{folder}: the index is damaged ({error}); {advice} again") from None
    return dict(manifest)


def generation_folder(folder: Path, manifest: Mapping[str, Any]) -> Path:
    name: str = manifest["generation"]
    if not name.startswith(_GENERATION) or Path(name).name != name:
        raise ValueError(f"generation {name!r}")
    return folder / name


def read_generation(folder: Path, manifest: Mapping[str, Any]) -> Stored:
    """Raises ArtifactError when files are damaged or do not fit together."""
    generation = generation_folder(folder, manifest)
    try:
        vectors = np.load(generation / "vectors.npy", allow_pickle=False)
        with (generation / "passages.jsonl").open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        text_hashes = [row.pop("text_hash") for row in rows]
        passages = [Passage(**{**row, "headings": tuple(row["headings"]), "withheld": ()}) for row in rows]
        if vectors.shape != (len(rows), manifest["dimension"]) or vectors.dtype != np.float32:
            raise ValueError(f"{len(rows)} passages, vectors {vectors.dtype} {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError("vectors hold NaN or infinite values")
        precision = manifest.get("precision", {}).get("multi_vector", "float32")
        lanes = read_lanes(generation, manifest.get("lanes", DENSE_LANES), precision, len(rows))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise ArtifactError(f"{folder}: the index is damaged ({error}); build it again") from None
    return Stored(passages, text_hashes, replace(lanes, dense=vectors))
