"""What a call takes, on the clock and of the processor: the latter is what is left to go by on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Took(NamedTuple):
    seconds: float
    cpu_seconds: float


def took(function: Callable[[], Any]) -> tuple[Took, Any]:
    """And what it returned."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = function()
    return Took(time.perf_counter() - start, time.process_time() - cpu_start), result
