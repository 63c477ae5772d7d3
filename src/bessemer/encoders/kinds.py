"""What kind of model lies under a name, told from its own files before any weights are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sentence_transformers.util import load_file_path

from bessemer.encoders.load import head_folder, model_location
from bessemer.hub import is_out_of_reach

Kind = Literal["dense", "unified", "sparse", "multi", "cross-encoder"]

DESCRIBED: Mapping[Kind, str] = {
    "dense": "a dense model",
    "unified": "a unified model",
    "sparse": "a sparse model",
    "multi": "a multi-vector model",
    "cross-encoder": "a cross-encoder",
}
_OF_TYPE: Mapping[str, Kind] = {
    "SentenceTransformer": "dense",
    "SparseEncoder": "sparse",
    "MultiVectorEncoder": "multi",
    "ColBERT": "multi",  # PyLate's name for it
    "CrossEncoder": "cross-encoder",
}
_OF_ARCHITECTURE: Mapping[str, Kind] = {"HF_ColBERT": "multi", "ForSequenceClassification": "cross-encoder"}
_DESCRIPTIONS = ("config_sentence_transformers.json", "modules.json", "config.json")


def kind_of(name: str, revision: str | None = None) -> Kind | None:
    """The kind of a model folder, an alias or a hub model: by head files, by the ``model_type`` that
    sentence-transformers writes, or else by the architecture. None where none of its files is to be had: loading it
    will say why. Raises ConfigError for a folder that is not there, and as `head_folder`."""
    location = model_location(name)
    if not any(_path(location, file, revision) for file in _DESCRIPTIONS):
        return None
    kind = _OF_TYPE.get(_read(location, "config_sentence_transformers.json", revision).get("model_type", ""))
    if kind is not None and kind != "dense":
        return kind
    if head_folder(location, revision):
        return "unified"
    if kind is None and not _path(location, "modules.json", revision):
        architectures: Sequence[str] = _read(location, "config.json", revision).get("architectures") or []
        found = [kind for end, kind in _OF_ARCHITECTURE.items() if any(a.endswith(end) for a in architectures)]
        return found[0] if found else "dense"
    return "dense"


def _read(location: str, file: str, revision: str | None) -> dict[str, Any]:
    path = _path(location, file, revision)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):  # loading the model will say so
        return {}
    return found if isinstance(found, dict) else {}


def _path(location: str, file: str, revision: str | None) -> str | None:
    try:
        offline = is_out_of_reach(location, revision)
        path: str | None = load_file_path(location, file, revision=revision, local_files_only=offline)
        return path
    except (OSError, ValueError, RuntimeError):  # no network, say
        return None
