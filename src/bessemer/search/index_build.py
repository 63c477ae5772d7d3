"""Building the hybrid index, or bringing it up to date: only what changed goes through the model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.encoders.encoder import OUTPUTS, Encoded, Encoder
from bessemer.errors import ArtifactError, ConfigError, DataError, Problem
from bessemer.search.bm25 import BM25
from bessemer.search.encoded_texts import join_texts, texts_of, unified_in
from bessemer.search.index_files import Stored, locked, read_generation, read_manifest, write_generation
from bessemer.search.index_lanes import DENSE_LANES, UNIFIED_LANES
from bessemer.types import Passage

_ENCODING = ("max_length", "query_max_length", "bf16")  # what changes vectors and is no part of the fingerprint
_OF_HEADS = ("top_weights", "multi_vector_precision")


@dataclass(frozen=True)
class IndexStats:
    """``n_encoded`` distinct texts went through the model, ``n_reused`` were taken over, ``n_removed`` ids are gone."""

    n_passages: int
    n_encoded: int
    n_reused: int
    n_removed: int


def build_index(
    folder: str | Path, passages: Sequence[Passage], encoder: Encoder, model_path: str | Path, task: str = ""
) -> IndexStats:
    """Write the index of ``passages`` into ``folder``, or bring the one there up to date.

    Dense vectors and BM25, and of a unified model its sparse and multi-vectors, too.
    Passages are indexed with their whole text: spans withheld for evaluation return. Vectors of texts that the old
    index holds are taken over when fingerprint, dtype and maximum length are the same. ``model_path``: the model's
    folder (kept relative where it lies beside the index) or its name; ``task``: whose prompts ``encoder`` uses, if
    any. Raises DataError without passages or with repeated ids, ConfigError when ``folder`` cannot be written, is in
    use by another build, or holds other things.
    """
    folder = Path(folder)
    served = [replace(passage, withheld=()) for passage in passages]
    _check(served)
    with locked(folder):
        manifest, stored = _old(folder)
        old_ids = {passage.passage_id for passage in stored.passages} if stored else set()
        lanes = UNIFIED_LANES if unified_in(encoder) else DENSE_LANES
        encoding, stamp = _encoding(encoder), encoder.fingerprint_of("passage")
        same_model = manifest.get("fingerprint") == stamp and manifest.get("encoding") == encoding
        same_lanes = tuple(manifest.get("lanes", DENSE_LANES)) == lanes
        stored, n_encoded = _encode(served, encoder, stored if same_model and same_lanes else None)
        assert stored.encoded.dense is not None
        vectors = stored.encoded.multi_vector
        manifest = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": _model_reference(folder, model_path),
            "task": task,
            "fingerprint": stamp,
            "similarity": encoder.similarity,
            "encoding": encoding,
            "n_passages": len(served),
            "dimension": stored.encoded.dense.shape[1],
            "lanes": lanes,
            "precision": {"dense": "float32"} | ({"multi_vector": vectors.precision} if vectors else {}),
        }
        passage_ids = [passage.passage_id for passage in served]
        lexical = BM25.build(passage_ids, [passage.indexed_text for passage in served])
        try:
            write_generation(folder, stored, manifest, lexical.save)
        except OSError as error:
            raise ConfigError(
                f"{folder}: the index cannot be written ({error.strerror or error}); free space or choose another "
                "folder. An index that was there is unchanged"
            ) from error
    n_removed = len(old_ids - set(passage_ids))
    return IndexStats(len(served), n_encoded, len(set(stored.text_hashes)) - n_encoded, n_removed)


def _check(passages: Sequence[Passage]) -> None:
    if not passages:
        raise DataError([Problem("corpus", None, "", "there are no passages to index", "give documents with text")])
    seen: set[str] = set()
    problems = []
    for passage in passages:
        if passage.passage_id in seen:
            message = f"passage id {passage.passage_id!r} stands twice"
            problems.append(Problem("corpus", None, "passage_id", message, "give every passage an id of its own"))
        seen.add(passage.passage_id)
    if problems:
        raise DataError(problems)


def _encoding(encoder: Encoder) -> dict[str, Any]:
    unified = unified_in(encoder)
    of_heads = {name: getattr(unified.settings, name) for name in _OF_HEADS} if unified else {}
    return {**{name: getattr(encoder, name, None) for name in _ENCODING}, **of_heads}


def _old(folder: Path) -> tuple[Mapping[str, Any], Stored | None]:
    """Manifest and content; nothing where there is none or a damaged one: everything is built anew."""
    try:
        manifest = read_manifest(folder)
        return manifest, read_generation(folder, manifest)
    except ArtifactError:
        return {}, None


def _encode(passages: list[Passage], encoder: Encoder, known: Stored | None) -> tuple[Stored, int]:
    """Every text that is not ``known`` encoded once; and the number of those."""
    text_hashes = [_text_hash(passage) for passage in passages]
    row_of = {text_hash: row for row, text_hash in enumerate(known.text_hashes)} if known else {}
    missing = {h: p.indexed_text for h, p in zip(text_hashes, passages, strict=True) if h not in row_of}
    parts = [known.encoded] if known else []
    if missing:
        fresh = _encode_all(encoder, list(missing.values()))
        if fresh.dense is None:
            raise ValueError("the encoder gives no dense vectors")
        parts.append(fresh)
        start = len(known.text_hashes) if known else 0
        row_of |= {text_hash: row for row, text_hash in enumerate(missing, start=start)}
    rows = np.array([row_of[text_hash] for text_hash in text_hashes], dtype=np.int64)
    return Stored(passages, text_hashes, texts_of(join_texts(parts), rows)), len(missing)


def _encode_all(encoder: Encoder, texts: Sequence[str]) -> Encoded:
    unified = unified_in(encoder)
    return unified.encode_passages(texts, outputs=OUTPUTS) if unified else encoder.encode_passages(texts)


def _text_hash(passage: Passage) -> str:
    return hashlib.sha256(passage.indexed_text.encode("utf-8", "surrogatepass")).hexdigest()


def _model_reference(folder: Path, model_path: str | Path) -> str:
    """Relative where model and index lie in one folder, so that it can be moved; else absolute, or a hub name."""
    path = Path(model_path)
    if not path.is_dir():
        return str(model_path)
    path = path.resolve()
    return os.path.join("..", path.name) if path.parent == folder.resolve().parent else str(path)
