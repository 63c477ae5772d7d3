"""``bessemer export``: a model as a CPU build, written only when it is as good as it was asked to be."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cpu.graph import copy_graph, require_exportable, write_graph
from bessemer.encoders.cpu.manifest import (
    GRAPHS,
    MANIFEST,
    TOKENIZER,
    Backend,
    Build,
    UnifiedFacts,
    beside_model,
    check_backend,
    file_facts,
    is_build,
    write_build,
)
from bessemer.encoders.cpu.open import open_build
from bessemer.encoders.cpu.openvino_graph import require_openvino, write_openvino
from bessemer.encoders.cpu.quantise import SCHEMES, require_quantiser
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.kinds import DESCRIBED, kind_of
from bessemer.encoders.prompts import Prompts
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.encoders.widths import widths_of, write_widths
from bessemer.errors import ConfigError, RefusedError
from bessemer.recipes.data import Material, load_judged, open_encoder, passage_tokens
from bessemer.recipes.export_gate import Gate, Verdict, folder_bytes
from bessemer.recipes.output import claim_folder, plain, publish_folder
from bessemer.recipes.prepare import prepare_corpus

logger = logging.getLogger(__name__)

FLOAT = "float32"


def export(config: Config, backend: str, out: str | None = None, index: str | None = None) -> Mapping[str, Any]:
    """Export ``config.model`` for ``backend`` into ``out`` (default: a folder of the backend's name in the model's).

    The build is judged by nDCG@10 on the dev queries of ``config.data``, against its source; without data by its
    vectors of passages of ``config.source`` or of the index ``index``. For int8 the schemes are tried from the fastest
    to the closest, and the first that passes is taken. Raises RefusedError, and leaves nothing, where the build loses
    more than ``config.export.max_loss``; ConfigError for models that cannot be exported and for folders that cannot be
    written; DataError for bad data.
    """
    known = check_backend(backend)
    target = _target(config.model, known, out)
    require_quantiser()
    if known == "openvino":
        require_openvino()
    source = _source(config)
    texts, material = _texts(config, source, index)
    gate = Gate(config, source, known, texts, material)
    refused: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="bessemer-export-") as temporary:
        for scheme, folder in attempts(source, known, Path(temporary)):
            build = build_of(config.model, source, known, folder)
            write_build(folder, build)
            verdict = gate.judge(open_build(folder), folder_bytes(folder))
            if not verdict.refusal:
                build = _sealed(build, source, verdict, {"scheme": scheme, "refused": refused})
                (folder / MANIFEST).unlink()
                write_widths(folder, widths_of(config.model))
                claim_folder(target.parent)
                publish_folder(folder, target, {MANIFEST: build.model_dump(mode="json")})
                return {"out": str(target), "backend": known, "source": config.model, **build.measured}
            refused.append({"scheme": scheme, "reason": verdict.refusal})
            logger.info("%s, %s: %s", known, scheme, verdict.refusal)
    told = "; ".join(f"{one['scheme']}: {one['reason']}" for one in refused)
    raise RefusedError(
        f"{config.model}: no build for {known} was written. {told}. Serve the model itself, export for another "
        "backend, or allow more with --max-loss"
    )


def _target(model: str, backend: Backend, out: str | None) -> Path:
    """Where the build goes; proved writable. Raises ConfigError rather than put it over something else."""
    if out is None and not Path(model).expanduser().is_dir():
        raise ConfigError(f"{model}: is no folder of yours to put the build into; give --out")
    target = Path(out).expanduser() if out else beside_model(model, backend)
    if target.is_file():
        raise ConfigError(f"--out {target}: is a file; give a folder")
    if target.is_dir() and any(target.iterdir()) and not is_build(target):
        raise ConfigError(f"--out {target}: holds files that are no build; choose an empty folder")
    claim_folder(target.parent)
    return target


def _source(config: Config) -> DenseEncoder:
    """The model that is exported, with its own prompts. Raises ConfigError for kinds that cannot be."""
    if is_build(config.model):
        raise ConfigError(f"{config.model}: is a build already; export the model that it was made from")
    kind = kind_of(config.model, config.trust_remote_code)
    if kind not in ("dense", "unified", None):
        raise ConfigError(f"{config.model}: {DESCRIBED[kind]}; dense and unified ones can be exported")
    source = open_encoder(config.model_copy(update={"task": "", "device": "cpu"}), config.model)
    require_exportable(source)
    return source


def _texts(config: Config, source: DenseEncoder, index: str | None) -> tuple[list[str], Material | None]:
    """Passages to judge by, and the judged data where there are any."""
    if sum(given is not None for given in (config.data, config.source, index)) != 1:
        raise ConfigError("export judges the build by your texts: give one of --data (measured), --source and --index")
    material = None
    if config.data:
        material = load_judged(config, require=("dev",))
        passages = list(material.collection.passages)
    elif config.source:
        passages = list(prepare_corpus(config, source.count_tokens, passage_tokens(config, source)).passages)
    else:
        from bessemer.search.index import open_index

        passages = list(open_index(str(index)).passages())
    if not passages:
        raise ConfigError("there are no passages to judge the build by; give others")
    return [passage.indexed_text for passage in passages], material


def attempts(source: DenseEncoder, backend: Backend, temporary: Path) -> Iterator[tuple[str, Path]]:
    """(scheme, folder with network and tokenizer): one for the float backends, else one per scheme of int8."""
    graph = temporary / GRAPHS["onnx"][0]
    write_graph(source, graph)
    schemes = SCHEMES if backend == "onnx-int8" else {FLOAT: write_openvino if backend == "openvino" else copy_graph}
    for n, (scheme, write) in enumerate(schemes.items()):
        folder = temporary / f"build-{n}"
        folder.mkdir()
        write(graph, folder / GRAPHS[backend][0])
        (folder / TOKENIZER).write_text(source.tokenizer.to_json(), encoding="utf-8")
        yield scheme, folder


def build_of(model: str, source: DenseEncoder, backend: Backend, folder: Path) -> Build:
    tokenizer, lengths = source.tokenizer, (source.query_max_length, source.max_length)
    if None in lengths:
        raise ConfigError(f"{model}: names no maximum length; give --max-length")
    return Build(
        backend=backend,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=model,
        stands_for={},
        similarity=source.similarity,
        dimension=source.dimension,
        query_prompt=source.query_prompt,
        passage_prompt=source.passage_prompt,
        task_prompts={task: Prompts(*prompts) for task, prompts in source.task_prompts.items()},
        query_max_length=lengths[0],
        max_length=lengths[1],
        n_positions=source.n_positions,
        pad_id=tokenizer.pad_id,
        padding_side=tokenizer.padding_side,
        cut_side=tokenizer.cut_side,
        unified=_unified_facts(source) if isinstance(source, UnifiedEncoder) else None,
        files={file.name: file_facts(file) for file in sorted(folder.iterdir())},
        measured={},
    )


def _unified_facts(source: UnifiedEncoder) -> UnifiedFacts:
    return UnifiedFacts(
        vocabulary_size=source.vocabulary_size,
        special_ids=tuple(source.heads.special_ids.tolist()),
        multi_vector_dimension=source.multi_vector_dimension,
        lane_weights=tuple(source.lane_weights),
        top_weights=source.settings.top_weights,
        multi_vector_precision=source.settings.multi_vector_precision,
    )


def _sealed(build: Build, source: DenseEncoder, verdict: Verdict, further: Mapping[str, Any]) -> Build:
    """With what was measured, and with the fingerprints that it stands for: the source's own, and those that it has
    with the prompts of each task."""
    tasks = ("", *source.task_prompts)
    stands_for = {task: source.for_task(task).fingerprint for task in tasks} if verdict.stands_for else {}
    measured = {**verdict.measured, **further, "stands_for_source": verdict.stands_for}
    return build.model_copy(update={"stands_for": stands_for, "measured": plain(measured)})
