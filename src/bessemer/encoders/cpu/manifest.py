"""What a CPU build says of itself: ``build.json``, written last, which names every other file with size and hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError

from bessemer.config.section import Section
from bessemer.encoders.encoder import Similarity
from bessemer.encoders.prompts import Prompts
from bessemer.encoders.token_vectors import Precision
from bessemer.errors import ArtifactError, ConfigError

Backend = Literal["onnx", "onnx-int8", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
MANIFEST, TOKENIZER = "build.json", "tokenizer.json"
GRAPHS: Mapping[Backend, tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "onnx-int8": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
}
"""Files of the network; the first is the one that is opened."""
ONNX_DATA = "model.onnx.data"
"""The weights of a large float32 graph, which refers to them by this name: one ONNX file holds 2 GiB at most."""
FORMAT = 1


class FileFacts(Section):
    bytes: int = Field(ge=0)
    sha256: str


class UnifiedFacts(Section):
    """What a unified model's outputs are made with: see `UnifiedSettings` and `UnifiedHeads`."""

    vocabulary_size: int = Field(ge=1)
    special_ids: tuple[int, ...]
    multi_vector_dimension: int = Field(ge=1)
    lane_weights: tuple[float, float, float]
    top_weights: int = Field(ge=1)
    multi_vector_precision: Precision


class Build(Section):
    """A build: how texts become its input, and what it was measured to be worth.

    ``stands_for``: fingerprints of the source model, by task ("" for its own prompts), whose passage vectors this
    build's query vectors may be compared with. ``measured`` is the table that the gate has judged.
    """

    format: Literal[1] = 1
    backend: Backend
    created: str
    source: str
    stands_for: Mapping[str, str]
    similarity: Similarity
    dimension: int = Field(ge=1)
    query_prompt: str
    passage_prompt: str
    task_prompts: Mapping[str, Prompts]
    query_max_length: int = Field(ge=1)
    max_length: int = Field(ge=1)
    n_positions: int | None
    pad_id: int = Field(ge=0)
    padding_side: Literal["left", "right"]
    cut_side: Literal["left", "right"]
    unified: UnifiedFacts | None
    files: Mapping[str, FileFacts]
    measured: Mapping[str, Any]


def is_build(name: str | Path) -> bool:
    """Whether a CPU build lies in this folder."""
    return Path(name, MANIFEST).is_file()


def check_backend(backend: str) -> Backend:
    """Raises ConfigError, which lists those that there are."""
    for known in BACKENDS:
        if backend == known:
            return known
    raise ConfigError(f"--backend {backend}: not known; known: {', '.join(BACKENDS)}")


def beside_model(model: str | Path, backend: str) -> Path:
    """Where the build of a model folder lies unless --out says otherwise."""
    return Path(model).expanduser() / check_backend(backend)


def find_build(model: str | Path, backend: str) -> Path:
    """The build for ``backend`` in the folder ``model``, or ``model`` itself where it is that. Raises ConfigError."""
    folder = Path(model).expanduser() if is_build(model) else beside_model(model, backend)
    if not is_build(folder):
        if not Path(model).expanduser().is_dir():
            raise ConfigError(
                f"--backend {backend}: {model} is no folder, so that no build lies in it. `bessemer export --model "
                f"{model} --backend {backend} --out DIR` makes one, and `bessemer serve --model DIR` serves its "
                "vectors; an index serves builds of a model that was a folder when it was built"
            )
        export = f"bessemer export --model {model} --backend {backend}"
        raise ConfigError(f"--backend {backend}: {folder} holds no build; make it with `{export}`")
    found = read_build(folder).backend
    if found != check_backend(backend):
        raise ConfigError(f"--backend {backend}: {folder} is a build for {found}; give that, or the model's folder")
    return folder


def file_facts(file: Path) -> FileFacts:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileFacts(bytes=file.stat().st_size, sha256=digest)


def write_build(folder: Path, build: Build) -> None:
    text = json.dumps(build.model_dump(mode="json"), ensure_ascii=False, indent=1)
    Path(folder, MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_build(folder: str | Path) -> Build:
    """The build in ``folder``, every file of it checked. Raises ArtifactError, which names the file, where one is
    damaged, missing or of a later format."""
    path = Path(folder, MANIFEST)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("format") != FORMAT:
            raise ArtifactError(f"{path}: format {found.get('format')} is not known here (known: {FORMAT})")
        build = Build.model_validate(found)
    except (OSError, ValueError, ValidationError) as error:
        cause = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{path}: damaged ({cause}); {_AGAIN}") from None
    optional = {ONNX_DATA} if build.backend == "onnx" else set()
    if set(build.files) - optional != {TOKENIZER, *GRAPHS[build.backend]}:
        raise ArtifactError(f"{path}: its files are not those of a build for {build.backend}; {_AGAIN}")
    for name, facts in build.files.items():
        _check_file(Path(folder, name), facts)
    return build


def _check_file(file: Path, facts: FileFacts) -> None:
    try:
        found = file_facts(file)
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read ({error.strerror}); {_AGAIN}") from None
    if found.bytes != facts.bytes:
        raise ArtifactError(f"{file}: has {found.bytes} bytes, not {facts.bytes}; {_AGAIN}")
    if found.sha256 != facts.sha256:
        raise ArtifactError(f"{file}: damaged (its sha256 is not that of {MANIFEST}); {_AGAIN}")


_AGAIN = "run `bessemer export` again"
