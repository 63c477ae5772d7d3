"""CPU builds without the gate: the graph, a scheme, a tokenizer and their manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

from bessemer.encoders.cpu.graph import write_graph
from bessemer.encoders.cpu.manifest import GRAPHS, TOKENIZER, Backend, Build, UnifiedFacts, file_facts, write_build
from bessemer.encoders.cpu.openvino_graph import write_openvino
from bessemer.encoders.cpu.quantise import SCHEMES
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.unified import UnifiedEncoder


def write_all(source: DenseEncoder, folder: Path) -> dict[str, Path]:
    """A build for every backend, and for every scheme of int8, from one graph."""
    graph = folder / "float.onnx"
    write_graph(source, graph)
    writers = {"onnx": shutil.copy, "openvino": write_openvino, **SCHEMES}
    return {name: written(source, folder / name, name, write, graph) for name, write in writers.items()}


def written(source: DenseEncoder, folder: Path, name: str, write, graph: Path) -> Path:  # type: ignore[no-untyped-def]
    backend: Backend = name if name in ("onnx", "openvino") else "onnx-int8"  # type: ignore[assignment]
    folder.mkdir()
    write(graph, folder / GRAPHS[backend][0])
    (folder / TOKENIZER).write_text(source.tokenizer.to_json(), encoding="utf-8")
    unified = None
    if isinstance(source, UnifiedEncoder):
        unified = UnifiedFacts(
            vocabulary_size=source.vocabulary_size,
            special_ids=tuple(source.heads.special_ids.tolist()),
            multi_vector_dimension=source.multi_vector_dimension,
            lane_weights=tuple(source.lane_weights),
            top_weights=source.settings.top_weights,
            multi_vector_precision=source.settings.multi_vector_precision,
        )
    build = Build(
        backend=backend, created="2026-01-01T00:00:00+00:00", source=source.name,
        stands_for={"": source.fingerprint}, similarity=source.similarity, dimension=source.dimension,
        query_prompt=source.query_prompt, passage_prompt=source.passage_prompt, task_prompts={},
        query_max_length=source.query_max_length, max_length=source.max_length, n_positions=source.n_positions,
        pad_id=source.tokenizer.pad_id, padding_side=source.tokenizer.padding_side,
        cut_side=source.tokenizer.cut_side, unified=unified,
        files={file.name: file_facts(file) for file in sorted(folder.iterdir())}, measured={},
    )  # fmt: skip
    write_build(folder, build)
    return folder
