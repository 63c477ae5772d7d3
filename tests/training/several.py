"""Real processes for tests: each joins the others by gloo, as under torchrun, and runs one function."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

from bessemer.training.distributed import join_processes

PATIENCE = 60
"""Seconds after which a process counts as hanging."""


def exit_codes(n: int, work: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Of ``n`` processes that call ``work(*arguments)``; None for one that had to be killed."""
    context = multiprocessing.get_context("forkserver")  # torch is imported once
    context.set_forkserver_preload(["bessemer.training.finetune"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [context.Process(target=_join_and, args=(rank, n, port, work, arguments)) for rank in range(n)]
    for process in started:
        process.start()
    for process in started:
        process.join(PATIENCE)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
        process.join()
    return codes


def run(n: int, work: Callable[..., None], *arguments: Any) -> None:
    assert exit_codes(n, work, *arguments) == [0] * n


def _join_and(rank: int, n: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1", OMP_NUM_THREADS="1")
    with join_processes("cpu"):
        work(*arguments)
