"""A training step of several processes, whose gradient is that of one process with the whole batch.

Every process makes the whole batch. It encodes its share of the texts, every n-th one, gets the others' embeddings, and
computes the loss of the whole batch, which is cheap beside the encoding. From that loss its own embeddings have their
exact gradient, whatever the loss couples; what flows back through them is summed over the processes.

A process that runs out of memory must not leave the others waiting: before each exchange of embeddings all say whether
they are well, and have the room for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from bessemer.draws import digest
from bessemer.processes import Processes
from bessemer.training.mini_batches import Features


class OutOfMemoryElsewhere(torch.OutOfMemoryError):
    """Another process ran out of memory in this step: none takes it."""


def own_share(mini_batches: Sequence[Features], processes: Processes) -> list[Features]:
    """Of the texts of all mini-batches, numbered through, those whose number is ``rank`` modulo the processes.

    Texts come sorted by length, so that all shares cost alike. Empty where there are fewer texts than processes.
    """
    if processes.n == 1:
        return list(mini_batches)
    start, found = 0, []
    for features in mini_batches:
        first = (processes.rank - start) % processes.n
        start += n_texts(features)
        if first < n_texts(features):
            found.append(_every(processes.n, features, first))
    return found


def all_embeddings(
    own: Sequence[Tensor], mini_batches: Sequence[Features], device: str, processes: Processes
) -> Sequence[Tensor]:
    """Embeddings (n, d) per mini-batch, from those of ``own_share`` in every process. Gradients reach one's own.

    Where mini-batches have rows of different lengths, all have the longest's afterwards, with zeros at their ends.
    """
    if processes.n == 1:
        return own
    all_well(device, processes)
    sizes = [n_texts(features) for features in mini_batches]
    width = _largest(max((rows.shape[1] for rows in own), default=0), device)
    gathered: Tensor = _Gather.apply(_of_width(own, width, device), sum(sizes), processes)  # type: ignore[no-untyped-call]
    return torch.split(gathered, sizes)


def _of_width(own: Sequence[Tensor], width: int, device: str) -> Tensor:
    """(R, width) all rows with zeros at their ends; without any (0, width), so that the loss of the others' rows has
    something to go back to."""
    if not own:
        return torch.zeros(0, width, device=device, requires_grad=True)
    return torch.cat([F.pad(rows, (0, width - rows.shape[1])) for rows in own])


def flat_gradients(model: nn.Module, processes: Processes) -> Tensor | None:
    """What `sum_gradients` exchanges: which parameters have a gradient, and all gradients, in one row. Made before the
    processes agree that they are well, as there may be no room for it. None where there is nobody to exchange with."""
    if processes.n == 1:
        return None
    parameters = _trained(model)
    known = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=parameters[0].device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([known, *(gradient.flatten() for gradient in gradients)])


def sum_gradients(model: nn.Module, flat: Tensor | None) -> None:
    """Over all processes, in place; what has no gradient in any of them keeps none, and the optimizer passes it by."""
    if flat is None:
        return
    parameters = _trained(model)
    dist.all_reduce(flat)
    known, *sums = torch.split(flat, [len(parameters), *(p.numel() for p in parameters)])
    for parameter, gradient, is_known in zip(parameters, sums, known.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if is_known else None


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def same_weights(model: nn.Module, processes: Processes) -> None:
    """The first process's, drawn ones included."""
    if processes.n > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)


def all_well(device: str, processes: Processes) -> None:
    """Wait for all. Raises OutOfMemoryElsewhere where one comes by `out_of_memory`."""
    if processes.n > 1 and not _agreed(True, device):
        raise OutOfMemoryElsewhere("another process ran out of memory")


def out_of_memory(device: str, processes: Processes) -> None:
    """Tell those who wait in `all_well`, whichever exchange they are at."""
    if processes.n > 1:
        _agreed(False, device)


def _largest(number: int, device: str) -> int:
    """Of all processes."""
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def _agreed(well: bool, device: str) -> bool:
    flag = torch.tensor(int(well), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MIN)
    return bool(flag)


@contextmanager
def draws_of(seed: int, step: int, device: str) -> Iterator[None]:
    """torch's draws within depend on (seed, step) alone: a loss that draws is the same in every process."""
    kind = torch.device(device).type
    used = [torch.cuda.current_device()] if kind == "cuda" else [0] if kind == "mps" else []
    with torch.random.fork_rng(devices=used, device_type=kind if used else "cuda"):
        torch.manual_seed(int.from_bytes(digest(seed, f"loss:{step}")[:8], "big"))
        yield


def n_texts(features: Features) -> int:
    return len(features["offsets"] if "offsets" in features else features["input_ids"])


def _every(n: int, features: Features, first: int) -> Features:
    """Rows first, first + n, ... of features in either form of ``DenseEncoder.features``."""
    if "offsets" not in features:
        return {
            name: values if name == "prompt_length" else values[first::n]  # one length for all texts
            for name, values in features.items()
        }
    texts: Iterable[Tensor] = features["input_ids"].tensor_split(features["offsets"][1:].cpu())[first::n]
    ends = torch.tensor([len(text) for text in texts]).cumsum(0)
    offsets = F.pad(ends[:-1], (1, 0)).to(features["offsets"].device)
    return {"input_ids": torch.cat(list(texts)), "offsets": offsets}


class _Gather(torch.autograd.Function):
    """(R, d) rows of this process to (N, d) rows of all; row i is of process i modulo their number. Raises
    OutOfMemoryElsewhere where another process has no room for them."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, n_rows: int, processes: Processes) -> Tensor:
        ctx.processes = processes
        longest = -(-n_rows // processes.n)
        padded = F.pad(own, (0, 0, 0, longest - len(own))).contiguous()
        shares = [torch.empty_like(padded) for _ in range(processes.n)]
        all_well(str(own.device), processes)
        dist.all_gather(shares, padded)
        return torch.stack(shares, dim=1).flatten(0, 1)[:n_rows]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Nothing is exchanged: every process has the whole loss, and so the whole gradient of its own rows."""
        return gradient[ctx.processes.rank :: ctx.processes.n], None, None
