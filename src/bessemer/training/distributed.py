"""Joining the processes that torchrun started: gloo between CPUs, nccl between GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from bessemer.encoders.runtime import resolve_device
from bessemer.errors import ConfigError
from bessemer.processes import Processes, started

STUCK = timedelta(hours=1)
"""After so long without an answer within a training step, a process that lives counts as lost. One that dies is noticed
at once: its connections close, and torchrun ends the rest."""

_joined = Processes()


def joined_processes() -> Processes:
    """Those that `join_processes` joined; else this process alone."""
    return _joined


@contextmanager
def join_processes(device: str | None = None) -> Iterator[Processes]:
    """Within it, the processes that torchrun started train together; without torchrun, there is this one.

    ``device``: as in the configuration. Process k of a machine takes GPU k, which is what ``cuda`` means within.
    Raises ConfigError for a device that processes cannot share out.
    """
    global _joined
    if started()[1] == 1:
        yield _joined
        return
    own = _own_device(resolve_device(device))
    store, rank, n = next(iter(rendezvous("env://")))
    dist.init_process_group(
        "nccl" if own else "gloo",
        store=store,
        rank=rank,
        world_size=n,
        timeout=STUCK,
        device_id=own,
    )
    _joined = Processes(rank, n, store)
    try:
        yield _joined
        dist.barrier()  # the first one may hold the store: nobody leaves while another still waits for a word
    finally:
        _joined = Processes()
        dist.destroy_process_group()


def _own_device(device: str) -> torch.device | None:
    """The GPU of this process, made the current one; None on a CPU."""
    if device == "cpu":
        return None
    if device != "cuda":
        raise ConfigError(f"--device {device}: several processes train on cpu or cuda; process k takes GPU k")
    local = int(os.environ["LOCAL_RANK"])
    n_gpus = torch.cuda.device_count()
    if local >= n_gpus:
        raise ConfigError(
            f"--device cuda: {n_gpus} GPUs for {os.environ['LOCAL_WORLD_SIZE']} processes; start one each"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
