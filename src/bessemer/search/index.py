"""The hybrid index: exact dense vectors and BM25, fused by rank, stamped with the model's fingerprint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoder
from bessemer.errors import ArtifactError, ConfigError, DataError, Problem
from bessemer.search.bm25 import BM25
from bessemer.search.fusion import reciprocal_rank_fusion
from bessemer.search.index_files import (
    Stored,
    generation_folder,
    locked,
    read_generation,
    read_manifest,
    write_generation,
)  # fmt: skip
from bessemer.search.retriever import LANE_DEPTH, DenseRetriever
from bessemer.search.rewrite import Rewritten
from bessemer.types import Hits, Passage

_ENCODING = ("max_length", "query_max_length", "bf16")  # what changes vectors and is no part of the fingerprint


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
        old = _old(folder)
        encoding = {name: getattr(encoder, name, None) for name in _ENCODING}
        stamp = encoder.fingerprint_of("passage")
        same_model = old.manifest.get("fingerprint") == stamp and old.manifest.get("encoding") == encoding
        known = dict(zip(old.stored.text_hashes, old.stored.vectors, strict=True)) if same_model else {}
        stored, n_encoded = _encode(served, encoder, known)
        manifest = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": _model_reference(folder, model_path),
            "task": task,
            "fingerprint": stamp,
            "similarity": encoder.similarity,
            "encoding": encoding,
            "n_passages": len(served),
            "dimension": stored.vectors.shape[1],
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
    n_removed = len({passage.passage_id for passage in old.stored.passages} - set(passage_ids))
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


@dataclass(frozen=True)
class _Old:
    manifest: Mapping[str, Any]
    stored: Stored


def _old(folder: Path) -> _Old:
    try:
        manifest = read_manifest(folder)
        return _Old(manifest, read_generation(folder, manifest))
    except ArtifactError:  # none there, or a damaged one: everything is built anew
        return _Old({}, Stored([], [], np.zeros((0, 0), dtype=np.float32)))


def _encode(passages: list[Passage], encoder: Encoder, known: dict[str, NDArray[np.float32]]) -> tuple[Stored, int]:
    """Vectors of all passages, each text that is not ``known`` encoded once; and the number of those."""
    text_hashes = [_text_hash(passage) for passage in passages]
    missing = {h: p.indexed_text for h, p in zip(text_hashes, passages, strict=True) if h not in known}
    if missing:
        fresh = encoder.encode_passages(list(missing.values())).dense
        if fresh is None:
            raise ValueError("the encoder gives no dense vectors")
        known = {**known, **dict(zip(missing, fresh, strict=True))}
    vectors = np.stack([known[text_hash] for text_hash in text_hashes]).astype(np.float32, copy=False)
    return Stored(passages, text_hashes, vectors), len(missing)


def _text_hash(passage: Passage) -> str:
    return hashlib.sha256(passage.indexed_text.encode("utf-8", "surrogatepass")).hexdigest()


def _model_reference(folder: Path, model_path: str | Path) -> str:
    """Relative where model and index lie in one folder, so that it can be moved; else absolute, or a hub name."""
    path = Path(model_path)
    if not path.is_dir():
        return str(model_path)
    path = path.resolve()
    return os.path.join("..", path.name) if path.parent == folder.resolve().parent else str(path)


def open_index(folder: str | Path, encoder: Encoder | None = None, task: str | None = None) -> Index:
    """Open an index for searching.

    Without ``encoder``, the model that the index names is loaded at the first search. Raises ArtifactError when the
    index is not finished, damaged, made by another model than ``encoder`` or for another task than ``task``.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if task is not None and task != manifest.get("task", ""):
        raise ArtifactError(
            f"{folder}: built for the task {manifest.get('task') or '(none)'}, not for {task}, whose passages have "
            f"other prompts; build one with `bessemer index --task {task}`"
        )
    if encoder is not None:
        _check_fingerprint(folder, manifest, encoder)
    stored = read_generation(folder, manifest)
    lexical = BM25.load(generation_folder(folder, manifest))
    if lexical.passage_ids != [passage.passage_id for passage in stored.passages]:
        raise ArtifactError(f"{folder}: the index is damaged (passages and BM25 do not fit); build it again")
    return Index(folder, manifest, stored, lexical, encoder)


class Index:
    """An open index. ``passages`` by id, ``manifest`` as written."""

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], stored: Stored, lexical: BM25, encoder: Encoder | None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.passages = {passage.passage_id: passage for passage in stored.passages}
        self._vectors = stored.vectors
        self._lexical = lexical
        self._encoder = encoder

    @cached_property
    def encoder(self) -> Encoder:
        """The model of the index. Raises ArtifactError when the one found is another."""
        if self._encoder is not None:
            return self._encoder
        from bessemer.encoders.load import load_encoder  # torch: only where a query must be encoded

        name = self.manifest["model"]
        beside = self.folder / name
        lengths = {key: self.manifest["encoding"][key] for key in ("max_length", "query_max_length")}
        encoder = load_encoder(str(beside.resolve()) if beside.is_dir() else name, **lengths)
        encoder = encoder.for_task(self.manifest.get("task", ""))
        _check_fingerprint(self.folder, self.manifest, encoder)
        return encoder

    @cached_property
    def _dense(self) -> DenseRetriever:
        return DenseRetriever(self.encoder, list(self.passages), self._vectors)

    def search(self, query: str, top_k: int = 10, rewritten: Rewritten | None = None) -> list[dict[str, Any]]:
        """The best passages for ``query`` by reciprocal rank fusion of the dense and the BM25 lane; what a language
        model made of the query is searched in lanes of its own beside them.

        Each is ``{"passage_id", "doc_id", "score", "text", "lanes"}``; ``lanes`` says at which rank and with which
        score of its own each lane found the passage, up to rank 100. Raises ConfigError for an empty query and for
        ``top_k`` below 1.
        """
        if not query.strip():
            raise ConfigError("the query is empty; give some words")
        if top_k < 1:
            raise ConfigError(f"top_k must be at least 1, not {top_k}")
        depth = max(top_k, LANE_DEPTH)
        lanes = {
            "dense": self._dense.search([query], depth)[0],
            "bm25": self._lexical.search([query], depth)[0],
            **self._further_lanes(rewritten or Rewritten(), depth),
        }
        found: dict[str, dict[str, dict[str, float]]] = {}
        for lane, hits in lanes.items():
            for rank, (passage_id, score) in enumerate(hits, start=1):
                found.setdefault(passage_id, {})[lane] = {"rank": rank, "score": score}
        return [
            {
                "passage_id": passage_id,
                "doc_id": self.passages[passage_id].doc_id,
                "score": score,
                "text": self.passages[passage_id].indexed_text,
                "lanes": found[passage_id],
            }
            for passage_id, score in reciprocal_rank_fusion(list(lanes.values()))[:top_k]
        ]

    def _further_lanes(self, rewritten: Rewritten, depth: int) -> dict[str, Hits]:
        """Keywords go to the lexical lane alone; a passage that might be the answer is encoded as a passage."""
        lanes = {}
        if rewritten.keywords:
            lanes["keywords"] = self._lexical.search([" ".join(rewritten.keywords)], depth)[0]
        if rewritten.variants:
            found = self._dense.search(rewritten.variants, depth)
            lanes |= {f"variant {n}": hits for n, hits in enumerate(found, start=1)}
        if rewritten.hypothetical:
            lanes["hyde"] = self._dense.search_like([rewritten.hypothetical], depth)[0]
        return lanes


def _check_fingerprint(folder: Path, manifest: Mapping[str, Any], encoder: Encoder) -> None:
    given = encoder.fingerprint_of("passage")
    if given != manifest["fingerprint"]:
        raise ArtifactError(
            f"{folder}: built with the model {manifest['model']} (fingerprint {manifest['fingerprint'][:16]}), but the "
            f"model given has fingerprint {given[:16]}: vectors of two models cannot be compared. "
            f"Search with {manifest['model']}, or build the index again with `bessemer index --model ...`"
        )
