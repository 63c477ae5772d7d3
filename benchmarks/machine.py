"""On what a benchmark was run, for its JSON."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    import torch

    from bessemer.encoders.runtime import has_native_bf16

    cpu_info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "native_bf16": has_native_bf16("cpu"),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "numpy")},
    }
