"""Batches of one task, their shares, their order, their turns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bessemer.training.sampling import Share, TaskBatches, batch_quotas


def epoch(batches: TaskBatches, number: int = 0) -> list[list[int]]:
    batches.epoch = number
    return list(batches)


def test_every_example_once_an_epoch_in_batches_of_one_task() -> None:
    batches = TaskBatches([Share(20, 8), Share(3, 8), Share(10, 4)], 1.0, seed=1)
    found = epoch(batches)
    assert len(found) == len(batches) == 3 + 1 + 3
    assert sorted(i for batch in found for i in batch) == list(range(33))
    tasks = [np.searchsorted([20, 23, 33], batch, side="right") for batch in found]
    assert all(len(set(task)) == 1 for task in tasks)
    sizes = {task: sorted(len(b) for b, t in zip(found, tasks, strict=True) if t[0] == task) for task in range(3)}
    assert sizes == {0: [6, 7, 7], 1: [3], 2: [3, 3, 4]}
    assert batches.n_examples(7) == 33
    assert batches.n_examples(16) == 66 + len(epoch(batches, 2)[0]) + len(epoch(batches, 2)[1])


def test_the_order_is_of_seed_and_epoch_alone() -> None:
    one, same, other = (TaskBatches([Share(50, 8), Share(30, 8)], 1.0, seed) for seed in (1, 1, 2))
    assert epoch(one, 3) == epoch(same, 3)
    assert epoch(one, 0) != epoch(one, 1)
    assert epoch(one, 0) != epoch(other, 0)


# 160, 40 and 10 examples in batches of 10: 16 + 4 + 1 = 21 batches
@pytest.mark.parametrize(
    ("alpha", "quotas"),
    [
        (1.0, [16, 4, 1]),
        (0.0, [7, 7, 7]),
        (0.5, [12, 6, 3]),  # square roots 4 : 2 : 1 of 21
        (0.9, [15, 5, 1]),  # 96.3 : 27.7 : 7.94 of 21 = 15.33, 4.40, 1.26: the remainder goes to the second
    ],
)
def test_quotas_by_hand(alpha: float, quotas: list[int]) -> None:
    assert batch_quotas([Share(160, 10), Share(40, 10), Share(10, 10)], alpha) == quotas


def test_no_task_vanishes() -> None:
    shares = [Share(100_000, 100), Share(2, 100)]
    assert batch_quotas(shares, 1.0) == [1000, 1]
    assert batch_quotas(shares, 0.9) == [1001, 1]


def test_round_robin_takes_turns_and_repeats_what_is_short() -> None:
    batches = TaskBatches([Share(30, 10), Share(10, 10)], 0.0, seed=1)
    found = epoch(batches)
    owners = [batch[0] >= 30 for batch in found]
    assert all(a != b for a, b in pairwise(owners))
    again = [sorted(batch) for batch, is_second in zip(found, owners, strict=True) if is_second]
    assert again == [list(range(30, 40)), list(range(70, 80))]  # all ten, each time: their first turn, their second
    orders = [[i % 40 for i in batch] for batch, is_second in zip(found, owners, strict=True) if is_second]
    assert orders[0] != orders[1]
    turns = [sorted({i // 40 for i in batch}) for batch in epoch(batches, 3)]
    assert turns == [[3], [6], [3], [7]]


def test_the_smallest_batch() -> None:
    for shares, least in (([Share(37, 8), Share(9, 8)], 4), ([Share(16, 8)], 8), ([Share(3, 8)], 3)):
        batches = TaskBatches(shares, 1.0, seed=1)
        assert batches.least == min(len(batch) for batch in epoch(batches)) == least
