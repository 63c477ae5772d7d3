"""GradCache (Gao et al. 2021, 2101.06983): the exact gradient of a batch of any size in the memory of a mini-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def cached_backward(
    mini_batches: Sequence[T],
    embed: Callable[[T], Tensor],
    loss_of: Callable[[Sequence[Tensor]], Tensor],
    backward: Callable[[Tensor], None],
) -> Tensor:
    """Accumulate the gradient of ``loss_of([embed(m) for m in mini_batches])`` and return the loss, detached.

    Three passes: embeddings without a graph; the loss and its gradient with respect to them; each mini-batch once more
    with a graph, through which its part of that gradient goes back by ``backward`` (which may scale). The random state
    of the first pass is put back for the third, so that dropout drops the same; afterwards it is that of the first
    pass's end. One forward pass more than the plain way is the price. Without mini-batches there is a loss alone: that
    of what other processes have.
    """
    states, leaves = [], []
    with torch.no_grad():
        for mini_batch in mini_batches:
            states.append(_random_state())
            leaves.append(embed(mini_batch).requires_grad_())
    after = _random_state()
    loss = loss_of(leaves)
    gradients = torch.autograd.grad(loss, leaves) if leaves else ()
    for mini_batch, state, gradient in zip(mini_batches, states, gradients, strict=True):
        _set_random_state(state)
        backward((embed(mini_batch) * gradient).sum())
    _set_random_state(after)
    return loss.detach()


RandomState = list[Tensor]
"""Of the CPU, and of the GPU where there is one."""


def _random_state() -> RandomState:
    return [generator.get_rng_state() for generator in _generators()]


def _set_random_state(state: RandomState) -> None:
    for generator, own in zip(_generators(), state, strict=True):
        generator.set_rng_state(own)


def _generators() -> list[Any]:
    gpus = [torch.cuda] if torch.cuda.is_available() else [torch.mps] if torch.backends.mps.is_available() else []
    return [torch, *gpus]
