"""One measurement, one process: memory and warm caches of one contestant never help or burden another."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def alone(function: Callable[..., Any], *arguments: Any, log: Path) -> Any:
    """``function(*arguments)`` from a fresh process, whose output goes to the end of ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_logged, function, arguments, log).result()
        except BaseException:
            print(f"failed; its output: {log}", file=sys.stderr)
            raise


def _logged(function: Callable[..., Any], arguments: tuple[Any, ...], log: Path) -> Any:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    return function(*arguments)


def peak_memory_mib() -> float:
    """Of this process so far. Linux lets it begin at its parent's: a parent should stay small."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
