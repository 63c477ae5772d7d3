"""OpenVINO, kept from reporting home, and an ONNX graph as its own files."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from bessemer.errors import ConfigError


def require_openvino() -> None:
    """Raises ConfigError without it."""
    if importlib.util.find_spec("openvino") is None:
        raise ConfigError('openvino is not installed; pip install "bessemer[openvino]"')


def openvino_without_telemetry() -> Any:
    """The package. Importing it tells its makers so, by the package openvino_telemetry: hidden, it does without.
    Raises ConfigError where it is not installed."""
    require_openvino()
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def write_openvino(source: Path, target: Path) -> None:
    """``target`` (.xml) and a .bin beside it, weights as they are: not rounded to 16 bits."""
    openvino = openvino_without_telemetry()
    openvino.save_model(openvino.Core().read_model(source), target, compress_to_fp16=False)
