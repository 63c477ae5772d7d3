"""An ONNX graph as OpenVINO's own files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bessemer.errors import ConfigError


def require_openvino() -> None:
    """Raises ConfigError without it."""
    if importlib.util.find_spec("openvino") is None:
        raise ConfigError('--backend openvino: needs openvino; pip install "bessemer[openvino]"')


def write_openvino(source: Path, target: Path) -> None:
    """``target`` (.xml) and a .bin beside it, weights as they are: not rounded to 16 bits."""
    import openvino

    openvino.save_model(openvino.convert_model(source), target, compress_to_fp16=False)
