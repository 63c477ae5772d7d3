"""What the machine can do, and how long encoding will take. torch is imported on use."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from bessemer.encoders.encoder import Side
from bessemer.errors import ConfigError

logger = logging.getLogger(__name__)

MAX_WORKERS = 8
"""Batches at once on a CPU: beyond it Python itself becomes the limit."""

OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)
"""What allocators without an error class of their own say: the CPU's, Apple's, CUDA's runtime and its libraries'."""

ENCODED: Mapping[Side, str] = {"query": "encoded {} queries", "passage": "encoded {} passages"}


def resolve_device(device: str | None) -> str:
    """The device to use: the one asked for, else cuda, else mps, else cpu. ConfigError when it is not there."""
    import torch

    if device is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device `{device}` cannot be used here: {str(error).splitlines()[0]}; try cpu") from None
    return device


def has_native_bf16(device: str) -> bool:
    """Whether ``device`` multiplies bf16 matrices in hardware. Emulated bf16 is slower than fp32, so it is a no."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.startswith("cpu"):
        return bool(torch.cpu._is_avx512_bf16_supported()) or bool(torch.cpu._is_amx_tile_supported())
    return False


def is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


S = TypeVar("S")
T = TypeVar("T")


def map_batches(function: Callable[[S], T], batches: Sequence[S], device: str) -> Iterator[T]:
    """``function`` of every batch, in order. On a CPU several run at once, each on its share of the threads: less
    waiting at the end of every small operation than with all threads on one batch."""
    import torch

    n_threads = torch.get_num_threads() if device == "cpu" else 1
    n_workers = min(n_threads, MAX_WORKERS, len(batches) // 2)
    if n_workers < 2:
        yield from map(function, batches)
        return
    share = (n_threads // n_workers,)
    try:
        with ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=share) as pool:
            yield from pool.map(function, batches)
    finally:
        torch.set_num_threads(n_threads)  # threads begun later inherit the last number set


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """No bars of transformers' own while a local model is read or written: they last a blink."""
    from transformers.utils import logging as transformers_logging

    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


class Progress:
    """Logs how far a long task is, with the time left, every ``interval`` seconds; short ones log nothing."""

    def __init__(self, total: int, done_to_what: str, interval: float = 5.0) -> None:
        """``done_to_what``: such as ``encoded {} queries``."""
        self._total, self._what, self._interval = total, done_to_what, interval
        self._done = self._skipped = 0
        self._start = self._last = time.monotonic()

    def update(self, n: int) -> None:
        """``n`` more texts were encoded."""
        self._done += n
        now = time.monotonic()
        if now - self._last < self._interval or self._done >= self._total:
            return
        self._last = now
        rate = (self._done - self._skipped) / (now - self._start)
        left = (self._total - self._done) / rate
        logger.info("%s, %.0f/s, %.0f s left", self._what.format(f"{self._done} of {self._total}"), rate, left)

    def skip(self, n: int) -> None:
        """``n`` more texts cost nothing; the time left is judged by those that do."""
        self._done += n
        self._skipped += n
