"""Which examples make a batch: one task per batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bessemer.draws import generator


@dataclass(frozen=True)
class Share:
    """The examples of one task and how many queries a batch of them has."""

    n_examples: int
    batch_size: int

    @property
    def n_batches(self) -> int:
        """Batches of an epoch; they differ by one example at most, so that none is nearly without negatives."""
        return -(-self.n_examples // self.batch_size)


class TaskBatches(torch.utils.data.Sampler[list[int]]):
    """Batches of example numbers, each of one task; tasks are numbered through, the first one's examples first.

    Mixed prompts in a batch would let the model tell positives from negatives by the prompt (LLM-Embedder, 2310.07554).
    An epoch has as many batches as all examples make. Task t gets of them a share that grows as n_t ** ``alpha``:
    1 (by size): every example once an epoch; 0 (round robin): all tasks alike, in turn. What a task has too few of is
    shuffled and used again, what it has too many of waits for other epochs; every task has one batch at least.
    The order depends on (seed, epoch) alone: every one of several processes draws the same batches.

    Example i on its k-th turn has the number i + k N, with N examples in all: what draws for it can draw anew.
    """

    def __init__(self, shares: Sequence[Share], alpha: float, seed: int) -> None:
        self._shares, self._alpha, self._seed = shares, alpha, seed
        self._offsets = np.cumsum([0, *(share.n_examples for share in shares)])
        self.epoch = 0
        self.quotas = batch_quotas(shares, alpha)

    def __len__(self) -> int:
        return sum(self.quotas)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.of_epoch(self.epoch):
            yield batch.tolist()

    @property
    def least(self) -> int:
        """Examples of the smallest batch."""
        return min(share.n_examples // share.n_batches for share in self._shares)

    def of_epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        tasks = [self._batches(t, epoch) for t in range(len(self._shares))]
        return [tasks[t].pop() for t in self._order(epoch)]

    def n_examples(self, n_steps: int) -> int:
        """In so many batches from the start."""
        epochs, rest = divmod(n_steps, len(self))
        whole = [sum(len(batch) for batch in self.of_epoch(epoch)) for epoch in range(epochs)]
        return sum(whole) + sum(len(batch) for batch in self.of_epoch(epochs)[:rest])

    def _batches(self, task: int, epoch: int) -> list[NDArray[np.int64]]:
        """To be taken from the end, the first turn first."""
        share, quota = self._shares[task], self.quotas[task]
        turns: list[list[NDArray[np.int64]]] = []
        n_turns = -(-quota // share.n_batches)
        for again in range(n_turns):
            order = generator(self._seed, f"{epoch}:{task}:{again}").permutation(share.n_examples)
            first = self._offsets[task] + (epoch * n_turns + again) * self._offsets[-1]
            turns.append(np.array_split(first + order, share.n_batches)[: quota - again * share.n_batches])
        return [batch for turn in reversed(turns) for batch in turn]

    def _order(self, epoch: int) -> list[int]:
        """The task of every batch."""
        tasks = np.repeat(np.arange(len(self.quotas)), self.quotas)
        if self._alpha:
            return [int(task) for task in generator(self._seed, f"{epoch}:order").permutation(tasks)]
        turns = np.concatenate([np.arange(quota) for quota in self.quotas])
        return [int(task) for task in tasks[np.argsort(turns, kind="stable")]]


def batch_quotas(shares: Sequence[Share], alpha: float) -> list[int]:
    """Batches per epoch of each task: the total by size, cut by n ** alpha, largest remainders first, one at least."""
    if alpha == 1:
        return [share.n_batches for share in shares]
    total = sum(share.n_batches for share in shares)
    weights = np.array([share.n_examples for share in shares], dtype=np.float64) ** alpha
    exact = total * weights / weights.sum()
    quotas = np.floor(exact)
    for i in np.argsort(quotas - exact, kind="stable")[: int(total - quotas.sum())]:
        quotas[i] += 1
    return [max(1, int(quota)) for quota in quotas]
