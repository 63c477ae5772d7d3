"""Embedding cache on disk: an encoder whose vectors outlive the process.

Texts are cut into shards before the cache is asked, and a shard is read whole or computed whole, because bf16 vectors
depend a little on their batch neighbours: the same texts give the same bits whatever the cache has seen before. The
cuts depend on the texts alone (a shard ends at a text whose hash says so), so texts added, changed or taken out
touch only the shards around them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bessemer.encoders.encoder import Encoded, Side, Similarity
from bessemer.encoders.runtime import ENCODED, Progress
from bessemer.errors import ConfigError

if TYPE_CHECKING:
    from bessemer.encoders.cpu.encoder import CpuEncoder
    from bessemer.encoders.dense import DenseEncoder

logger = logging.getLogger(__name__)

MEAN_SHARD = 512
MAX_SHARD = 2_048


class Shard(NamedTuple):
    """Vectors (n, d) of some texts, how many of these were cut, and what encoding them took."""

    vectors: NDArray[np.float32]
    n_truncated: int
    seconds: float


class CachedEncoder:
    """``encoder`` with its vectors kept under ``folder``, in files named by a hash of all that shaped them.

    Any number of processes may share the folder: files appear by atomic rename and never change. A damaged file is
    computed again. ``n_truncated`` counts per side as the encoder's does, cached texts included; ``kept_seconds`` is
    what the vectors read from the cache had taken to encode.
    """

    def __init__(self, encoder: DenseEncoder | CpuEncoder, folder: str | Path) -> None:
        """Raises ConfigError when ``folder`` cannot be made."""
        self.encoder = encoder
        self.folder = Path(folder)
        self.n_truncated: dict[str, int] = {"query": 0, "passage": 0}
        self.kept_seconds: dict[str, float] = {"query": 0.0, "passage": 0.0}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"{self.folder}: the cache folder cannot be made ({error.strerror})"
            raise ConfigError(f"{reason}; pass --workspace with another folder") from None

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint

    def fingerprint_of(self, side: Side) -> str:
        return self.encoder.fingerprint_of(side)

    @property
    def content_key(self) -> str:
        return self.encoder.content_key

    @property
    def similarity(self) -> Similarity:
        return self.encoder.similarity

    @property
    def dimension(self) -> int:
        return self.encoder.dimension

    @property
    def max_length(self) -> int | None:
        return self.encoder.max_length

    @property
    def query_max_length(self) -> int | None:
        return self.encoder.query_max_length

    @property
    def bf16(self) -> bool:
        return self.encoder.bf16

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """As the encoder's, from the cache where it can."""
        return Encoded(dense=self._encode(texts, "query"))

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        """As the encoder's, from the cache where it can."""
        return Encoded(dense=self._encode(texts, "passage"))

    def _encode(self, texts: Sequence[str], side: Side) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        self.encoder.settle_precision(texts, side)  # the precision is part of the key
        settings = _settings(self.encoder, side)
        progress = Progress(len(texts), ENCODED[side])
        for start, end, key in shards(texts, settings):
            path = _file(self.folder, key)
            found = _read(path, (end - start, self.dimension))
            if found is None:
                before, started = self.encoder.n_truncated[side], time.perf_counter()
                dense = self.encoder.encode(texts[start:end], side, progress)
                found = Shard(dense, self.encoder.n_truncated[side] - before, time.perf_counter() - started)
                _write(path, found)
            else:
                progress.skip(end - start)
                self.kept_seconds[side] += found.seconds
            vectors[start:end] = found.vectors
            self.n_truncated[side] += found.n_truncated
        return vectors


def missing(encoder: DenseEncoder | CpuEncoder, folder: Path, texts: Sequence[str], side: Side) -> list[str]:
    """Of ``texts``, those whose vectors a `CachedEncoder` over ``folder`` would compute. Nothing is written."""
    encoder.settle_precision(texts, side)
    cuts = shards(texts, _settings(encoder, side))
    return [text for start, end, key in cuts if not _file(folder, key).exists() for text in texts[start:end]]


def shards(texts: Sequence[str], settings: str) -> Iterator[tuple[int, int, str]]:
    """Cut ``texts`` into shards: (start, end, key), the key a hash of ``settings`` and of every text in order."""
    start, digest = 0, hashlib.sha256(settings.encode())
    for position, text in enumerate(texts, start=1):
        text_hash = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        digest.update(text_hash)
        is_cut = int.from_bytes(text_hash[:8], "big") % MEAN_SHARD == 0
        if is_cut or position - start == MAX_SHARD or position == len(texts):
            yield start, position, digest.hexdigest()
            start, digest = position, hashlib.sha256(settings.encode())


def _settings(encoder: DenseEncoder | CpuEncoder, side: Side) -> str:
    length = encoder.query_max_length if side == "query" else encoder.max_length
    return json.dumps(
        [encoder.fingerprint_of(side), side, encoder.precision_of(side), length, "torch", encoder.device.split(":")[0]]
    )


def _file(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.safetensors"


def _read(path: Path, shape: tuple[int, int]) -> Shard | None:
    """None when the file is not there or is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            vectors, notes = file.get_tensor("dense"), json.loads((file.metadata() or {})["shard"])
            is_whole = vectors.shape == shape and vectors.dtype == np.float32
            if is_whole and notes["sha256"] == hashlib.sha256(vectors.tobytes()).hexdigest():
                return Shard(vectors, int(notes["n_truncated"]), float(notes.get("seconds", 0.0)))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, ValueError):
        pass
    logger.warning("%s: damaged cache file, computed again", path)
    return None


def _write(path: Path, shard: Shard) -> None:
    """Write a shard so that it is there whole or not at all. A full disk costs the cache entry, not the vectors."""
    sha256 = hashlib.sha256(shard.vectors.tobytes()).hexdigest()
    notes = {"sha256": sha256, "n_truncated": shard.n_truncated, "seconds": shard.seconds}
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(save({"dense": shard.vectors}, {"shard": json.dumps(notes)}))
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        logger.warning("%s: not cached (%s)", path, error.strerror)
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
