"""Weights of a graph as 8-bit integers. What a text's numbers are rounded to is worked out while it is encoded."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bessemer.encoders.cpu.graph import HEADS
from bessemer.errors import ConfigError

BLOCK = 128
"""Numbers that share a scale in ``blockwise``."""


def _dynamic(source: Path, target: Path) -> None:
    """A scale per column of each weight, one per text for what it is multiplied with."""
    _quantise(source, target, lambda n_in, n_out: True)


def _dynamic_but_narrowing(source: Path, target: Path) -> None:
    """As `_dynamic`, but for the layers that end feed-forward blocks: their input has the largest outliers."""
    _quantise(source, target, lambda n_in, n_out: n_in <= n_out)


def _blockwise(source: Path, target: Path) -> None:
    """A scale per ``BLOCK`` numbers of each column, and of each token's numbers: closest to float32, least fast."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    kept = [name for name, _ in _of_heads(onnx.load(source))]
    quantiser = MatMulNBitsQuantizer(
        onnx.load(source), bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=4, nodes_to_exclude=kept
    )
    quantiser.process()
    quantiser.model.save_model_to_file(str(target))


SCHEMES: Mapping[str, Callable[[Path, Path], None]] = {
    "dynamic": _dynamic,
    "dynamic, narrowing layers in float32": _dynamic_but_narrowing,
    "blockwise": _blockwise,
}
"""From the fastest to the closest: (fp32 graph, file to write). A unified model's heads stay float32 in all: they are
small, and what they give is not normalised away."""


def require_quantiser() -> None:
    """Raises ConfigError without the packages that write graphs."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f'exporting needs {package}; pip install "bessemer[cpu]"')


def _quantise(source: Path, target: Path, chosen: Callable[[int, int], bool]) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    heads = {name for name, _ in _of_heads(graph)}
    names = [name for name, shape in _products(graph) if name not in heads and chosen(*shape)]
    # else it advises, on the root logger, to simplify the graph first: the exporter has done so
    graph.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    quantize_dynamic(
        graph,
        target,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=names,
    )


def _products(graph: Any) -> list[tuple[str, tuple[int, int]]]:
    """(name, (in, out)) of every product with a weight."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    return [
        (node.name, shapes[node.input[1]])
        for node in graph.graph.node
        if node.op_type == "MatMul" and len(shapes.get(node.input[1], ())) == 2
    ]


def _of_heads(graph: Any) -> list[tuple[str, tuple[int, int]]]:
    """Those products whose result a head's bias is added to."""
    added = {
        name
        for node in graph.graph.node
        if node.op_type == "Add" and any(f".{HEADS}." in name for name in node.input)
        for name in node.input
    }
    results = {node.name: set(node.output) for node in graph.graph.node}
    return [(name, shape) for name, shape in _products(graph) if results[name] & added]
