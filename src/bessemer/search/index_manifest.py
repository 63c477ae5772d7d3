"""The manifest of an index: which generation is searched and how. It is a fact of the engine, and written last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bessemer.errors import ArtifactError, ConfigError
from bessemer.search.lexicon import Lexicon
from bessemer.search.stores.store import Engine

FORMAT = 2
MANIFEST = "manifest"
DENSE_LANES = ("dense", "bm25")
UNIFIED_LANES = ("dense", "sparse", "bm25", "multi_vector")


def read_manifest(engine: Engine) -> dict[str, Any]:
    """Raises ArtifactError when the index is not finished, damaged, or of another version."""
    content = engine.read_fact(MANIFEST)
    if not content:
        raise ArtifactError(f"{engine.location}: no finished index (no manifest); build it with `bessemer index`")
    return parsed_manifest(content, engine.location)


def parsed_manifest(content: bytes, location: str) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}, this version reads {FORMAT}")
        for key in ("generation", "model", "fingerprint", "engine", "task"):
            if not isinstance(manifest[key], str):
                raise ValueError(f"{key} is {manifest[key]!r}")
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
        raise ArtifactError(
            f"{location}: the index is damaged or of another version ({reason}); build it again with `bessemer index`"
        ) from None
    return dict(manifest)


def write_manifest(engine: Engine, manifest: Mapping[str, Any]) -> None:
    engine.switch(manifest["generation"])
    engine.write_fact(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode("utf-8"))


def write_fusion(engine: Engine, fusion: Mapping[str, Any]) -> None:
    """How the lanes of what is searched are fused, from now on. Raises ConfigError where another build is under way."""
    with engine.lock():
        write_manifest(engine, {**read_manifest(engine), "fusion": dict(fusion)})


def read_lexicon(engine: Engine, generation: str) -> Lexicon:
    content = engine.read_fact(_lexicon_name(generation))
    if not content:
        raise ArtifactError(f"{engine.location}: the index is damaged (no lexicon); build it again")
    return Lexicon.from_bytes(content, engine.location)


def write_lexicon(engine: Engine, generation: str, lexicon: Lexicon) -> None:
    engine.write_fact(_lexicon_name(generation), lexicon.to_bytes())


def drop_generation(engine: Engine, generation: str) -> None:
    engine.drop(generation)
    if engine.read_fact(_lexicon_name(generation)):
        engine.write_fact(_lexicon_name(generation), b"")


def generations_of(manifest: Mapping[str, Any]) -> list[str]:
    """What is searched by ``manifest``: the passages, and the questions where there are any."""
    questions = manifest.get("questions")
    passages = [manifest["generation"]] if manifest else []
    return [*passages, *([questions["generation"]] if questions else [])]


def rollback(engine: Engine) -> dict[str, Any]:
    """Search the generation before again, and return its manifest; once more, and the later one is back. Raises
    ConfigError where none was kept, or where a build has begun to change it."""
    with engine.lock():
        manifest = read_manifest(engine)
        before = manifest.get("previous")
        if not before:
            raise ConfigError(f"{engine.location}: no generation before this one is kept; nothing to roll back to")
        if not all(read_lexicon(engine, generation).is_exact for generation in generations_of(before)):
            raise ConfigError(
                f"{engine.location}: the generation of {before['model']} was being brought up to date when the build "
                f"was stopped; finish it with `bessemer index --model {before['model']}`"
            )
        for generation in generations_of(before):
            engine.open(generation).close()  # damage is told now, not by the first search
        restored = {**before, "previous": {key: value for key, value in manifest.items() if key != "previous"}}
        write_manifest(engine, restored)
        return restored


def _lexicon_name(generation: str) -> str:
    return f"lexicon-{generation}"
