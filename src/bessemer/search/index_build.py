"""Building the hybrid index, or bringing it up to date: only what changed goes through the model.

A build with the model and the settings of the generation that is searched changes that one, in batches; each is on disk
when the engine has taken it, so that a build that was stopped goes on where it was. Another model, or other settings,
build a second generation beside it, which is searched once it is whole; the one before is kept for `rollback`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bessemer.encoders.encoder import ContextEncoder, Encoder
from bessemer.encoders.prompts import is_alias
from bessemer.errors import ArtifactError, ConfigError, DataError, Problem
from bessemer.search.encoded_texts import unified_in
from bessemer.search.index_manifest import (
    DENSE_LANES,
    FORMAT,
    MANIFEST,
    UNIFIED_LANES,
    drop_generation,
    generations_of,
    read_manifest,
    write_manifest,
)
from bessemer.search.index_update import Update
from bessemer.search.question_index import Pointer, QuestionEncoder, question_generation, question_records
from bessemer.search.stores.engines import open_engine
from bessemer.search.stores.store import Engine, VectorStore
from bessemer.types import Passage

_ENCODING = ("max_length", "query_max_length", "bf16")  # what changes vectors and is no part of the fingerprint
_OF_HEADS = ("top_weights", "multi_vector_precision")
_LATE_CHUNKING = 2
"""Vectors of version 1 left a passage prompt out of the mean."""


@dataclass(frozen=True)
class IndexStats:
    """``n_encoded`` distinct texts went through the model, ``n_reused`` were taken over, ``n_removed`` ids are gone.
    ``n_reweighed`` passages got other BM25 weights alone, as the mean length of all has moved, or as words are cut
    otherwise now. ``n_questions`` point at passages, a question of two passages twice; of them ``n_questions_encoded``
    distinct ones went through the model."""

    n_passages: int
    n_encoded: int
    n_reused: int
    n_removed: int
    n_reweighed: int = 0
    n_questions: int = 0
    n_questions_encoded: int = 0


def build_index(
    location: str | Path | Engine,
    passages: Sequence[Passage],
    encoder: Encoder,
    model_path: str | Path,
    task: str = "",
    engine: str = "files",
    questions: Sequence[Pointer] = (),
) -> IndexStats:
    """Write the index of ``passages`` at ``location``, or bring the one there up to date.

    Dense vectors and BM25, and of a unified model its sparse and multi-vectors, too. ``location``: where an engine of
    the name ``engine`` keeps it, such as a folder; or an engine itself.
    Passages are indexed with their whole text: spans withheld for evaluation return. Vectors of texts that the
    generation holds are taken over when fingerprint, dtype and maximum length are the same. ``model_path``: the
    model's folder (kept relative where it lies beside the index) or its name; ``task``: whose prompts ``encoder``
    uses, if any. ``questions``: of training data or of people, never of those that the index will be judged by, each
    with the passage that answers it; they are a lane of their own (`bessemer.search.question_index`). Those whose
    passage is not among ``passages`` are left out. Raises DataError without passages or with repeated ids, ConfigError
    when ``location`` cannot be written, is in use by another build, or holds other things.
    """
    opened = open_engine(location, engine) if isinstance(location, str | Path) else location
    served = [replace(passage, withheld=()) for passage in passages]
    _check(served)
    with opened.lock():
        return _build(opened, served, encoder, model_path, task, question_records(questions, served))


def _build(
    engine: Engine,
    passages: Sequence[Passage],
    encoder: Encoder,
    model_path: str | Path,
    task: str,
    questions: Sequence[Passage],
) -> IndexStats:
    before = _manifest(engine)
    lanes = UNIFIED_LANES if unified_in(encoder) else DENSE_LANES
    identity = {
        "fingerprint": encoder.fingerprint_of("passage"),
        "similarity": encoder.similarity,
        "encoding": _encoding(encoder),
        "lanes": lanes,
    }
    generation = _generation(identity)
    store = _store(engine, generation, live=before.get("generation") == generation)
    previous = before.get("previous") if before.get("generation") == generation else before
    old_ids = _ids(engine, before, store if before.get("generation") == generation else None)
    update = Update(engine, generation, store, encoder, passages)
    n_encoded = update.run()
    layout = update.layout
    asked = question_generation(generation, encoder) if questions else None
    n_questions_encoded = _put_questions(engine, asked, asked in generations_of(before), encoder, questions)
    write_manifest(
        engine,
        {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
            "engine": engine.name,
            "generation": generation,
            "model": _model_reference(Path(engine.location), model_path),
            "task": task,
            **identity,
            "n_passages": len(passages),
            "questions": {"generation": asked, "n": len(questions)} if asked else None,
            "dimension": layout.dimension,
            "precision": {"dense": "float32"}
            | ({"multi_vector": layout.token_precision} if layout.token_dimension is not None else {}),
            "previous": {key: value for key, value in previous.items() if key != "previous"} if previous else None,
        },
    )
    kept = {generation, *([asked] if asked else []), *generations_of(previous or {})}
    for other in engine.generations():
        if other not in kept:
            drop_generation(engine, other)
    update.close()
    n_removed = len(old_ids - {passage.passage_id for passage in passages})
    of_questions = (len(questions), n_questions_encoded)
    return IndexStats(
        len(passages), n_encoded, update.n_texts - n_encoded, n_removed, update.n_reweighed, *of_questions
    )


def _put_questions(
    engine: Engine, generation: str | None, live: bool, encoder: Encoder, questions: Sequence[Passage]
) -> int:
    """The number of them that went through the model."""
    if generation is None:
        return 0
    update = Update(engine, generation, _store(engine, generation, live), QuestionEncoder(encoder), questions)
    n_encoded = update.run()
    update.close()
    return n_encoded


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


def _manifest(engine: Engine) -> Mapping[str, Any]:
    """Nothing where there is none, or a damaged one: everything is built anew. Raises ConfigError where another engine
    keeps the index there."""
    try:
        manifest = read_manifest(engine)
    except ArtifactError:
        return {}
    if manifest["engine"] != engine.name:
        raise ConfigError(
            f"{engine.location}: holds an index of the engine {manifest['engine']}, not {engine.name}; "
            f"give --engine {manifest['engine']}, or another place"
        )
    return manifest


def _generation(identity: Mapping[str, Any]) -> str:
    """Named by what makes its vectors: an unfinished one, or one of before, is found again by its name."""
    return f"generation-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}"


def _store(engine: Engine, generation: str, live: bool) -> VectorStore | None:
    """What is there of the generation already; a damaged one is removed."""
    if generation not in engine.generations():
        return None
    try:
        return engine.open(generation)
    except ArtifactError:
        if live:  # it is searched by nobody: it does not open
            engine.write_fact(MANIFEST, b"")
        drop_generation(engine, generation)
        return None


def _ids(engine: Engine, manifest: Mapping[str, Any], store: VectorStore | None) -> set[str]:
    """Of the passages that were searched so far."""
    if store is not None:
        return set(store.text_hashes())
    if not manifest:
        return set()
    try:
        with closing(engine.open(manifest["generation"])) as searched:
            return set(searched.text_hashes())
    except ArtifactError:
        return set()


def _encoding(encoder: Encoder) -> dict[str, Any]:
    unified = unified_in(encoder)
    of_heads = {name: getattr(unified.settings, name) for name in _OF_HEADS} if unified else {}
    late = {"late_chunking": _LATE_CHUNKING} if isinstance(encoder, ContextEncoder) else {}
    return {**{name: getattr(encoder, name, None) for name in _ENCODING}, **of_heads, **late}


def _model_reference(place: Path, model_path: str | Path) -> str:
    """Relative where model and index lie in one folder, so that it can be moved; else absolute, or a hub name."""
    path = Path(model_path)
    if is_alias(str(model_path)) or not path.is_dir():
        return str(model_path)
    path = path.resolve()
    return os.path.join("..", path.name) if path.parent == place.resolve().parent else str(path)
