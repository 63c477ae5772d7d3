"""The engines that run a build. Each is imported where it is used: they are extras."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.cpu.manifest import GRAPHS, Backend
from bessemer.encoders.cpu.openvino_graph import openvino_without_telemetry
from bessemer.errors import ArtifactError, ConfigError

Network = Callable[[NDArray[np.int64], NDArray[np.int64]], Mapping[str, NDArray[np.float32]]]
"""(n, L) token ids and attention mask to outputs by name: ``dense`` (n, d), and of a unified model ``weights`` (n, L)
and ``vectors`` (n, L, m). May be called from several threads."""


def open_network(folder: Path, backend: Backend, n_threads: int | None = None) -> Network:
    """``n_threads``: one per physical core by default. Raises ConfigError without the engine's package, ArtifactError
    for a file that it does not take."""
    open_one = _openvino if backend == "openvino" else _onnx
    return open_one(folder / GRAPHS[backend][0], n_threads or n_physical_cores())


def n_physical_cores() -> int:
    """Physical cores that this process may use, or OMP_NUM_THREADS where that is set: two threads on one core share
    its multipliers, and are slower than one."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len({_siblings(cpu) for cpu in usable})


def _siblings(cpu: int) -> str:
    """The logical processors of the core that ``cpu`` is on; ``cpu`` itself where the system does not tell."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return str(cpu)


def _onnx(file: Path, n_threads: int) -> Network:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(f'{file.parent}: needs onnxruntime; pip install "bessemer[cpu]"') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
    options.log_severity_level = 3  # errors: warnings speak of its own rewriting of the graph
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for every damage, none of them public
        raise _unfit(file, error) from None
    names = [output.name for output in session.get_outputs()]

    def run(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Mapping[str, NDArray[np.float32]]:
        found = session.run(names, {"input_ids": input_ids, "attention_mask": attention_mask})
        return dict(zip(names, found, strict=True))

    return run


def _openvino(file: Path, n_threads: int) -> Network:
    openvino = openvino_without_telemetry()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # else it runs bf16 where the processor has it, and says nothing
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": n_threads,
    }
    try:
        model: Any = openvino.Core().compile_model(str(file), "CPU", settings)
    except Exception as error:
        raise _unfit(file, error) from None
    names = [output.get_any_name() for output in model.outputs]
    of_thread = threading.local()

    def run(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Mapping[str, NDArray[np.float32]]:
        if not hasattr(of_thread, "request"):
            of_thread.request = model.create_infer_request()
        found = of_thread.request.infer({"input_ids": input_ids, "attention_mask": attention_mask})
        return {name: np.array(found[name]) for name in names}

    return run


def _unfit(file: Path, error: Exception) -> ArtifactError:
    cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ArtifactError(f"{file}: cannot be opened ({cause}); run `bessemer export` again")
