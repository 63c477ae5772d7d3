"""Turns of the batcher, with a lane that a test can hold: squares of numbers, a number in negative is a fault."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from bessemer.serving.batching import Batcher, Lane, Turn
from bessemer.serving.refusal import Refusal


class Held:
    """Computes when the gate is open; ``turns`` are the items of each computation."""

    def __init__(self, turn_tokens: int = 10, max_requests: int = 100, max_tokens: int = 1_000) -> None:
        self.gate = threading.Event()
        self.turns: list[list[int]] = []
        self.watched: list[Turn] = []
        self.batcher = Batcher(turn_tokens, max_requests, max_tokens, self.watched.append)
        self.lane, self.other = self._lane(), self._lane()

    def _lane(self) -> Lane:
        return Lane(self._squares, lambda found, rows: found[rows], lambda parts: [n for part in parts for n in part])

    def _squares(self, items: list[int]) -> list[int]:
        self.turns.append(items)
        assert self.gate.wait(10)
        if min(items) < 0:
            raise ValueError("negative")
        return [item * item for item in items]

    def ask(self, *items: int, tokens: int = 1, lane: Lane | None = None) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.batcher.run(lane or self.lane, items, [tokens] * len(items)))

    async def busy(self) -> asyncio.Task[Any]:
        """Somebody whom the model is busy with."""
        first = self.ask(0)
        await until(lambda: self.turns == [[0]])
        return first


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def driven(script: Callable[[Held], Coroutine[Any, Any, None]], **settings: int) -> Held:
    held = Held(**settings)
    try:
        asyncio.run(script(held))
    finally:
        held.gate.set()
        held.batcher.close()
    return held


async def _gathered(*tasks: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_is_computed_together() -> None:
    async def script(held: Held) -> None:
        first = await held.busy()
        others = [held.ask(1, 2), held.ask(3), held.ask(4)]
        await until(lambda: held.batcher.waiting() == (3, 4))
        held.gate.set()
        assert await _gathered(first, *others) == [[0], [1, 4], [9], [16]]

    held = driven(script)
    assert held.turns == [[0], [1, 2, 3, 4]]
    assert [(turn.n_requests, turn.n_items, turn.n_tokens) for turn in held.watched] == [(1, 1, 1), (3, 4, 4)]


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    async def script(held: Held) -> None:
        first = await held.busy()
        large, small = held.ask(*range(1, 21)), held.ask(30)
        await until(lambda: held.batcher.waiting()[0] == 2)
        held.gate.set()
        assert await _gathered(first, large, small) == [[0], [n * n for n in range(1, 21)], [900]]

    held = driven(script)  # ten tokens a turn, five for each of two
    assert held.turns == [[0], [1, 2, 3, 4, 5, 30], [*range(6, 16)], [*range(16, 21)]]


def test_a_text_above_the_budget_goes_alone() -> None:
    async def script(held: Held) -> None:
        held.gate.set()
        assert await held.ask(1, 2, tokens=50) == [1, 4]

    assert driven(script).turns == [[1], [2]]


def test_lanes_take_turns() -> None:
    async def script(held: Held) -> None:
        first = await held.busy()
        tasks = [held.ask(1), held.ask(2, lane=held.other), held.ask(3)]
        await until(lambda: held.batcher.waiting()[0] == 3)
        held.gate.set()
        assert await _gathered(first, *tasks) == [[0], [1], [4], [9]]

    assert driven(script).turns == [[0], [1, 3], [2]]


def test_who_is_cancelled_leaves_the_queue() -> None:
    async def script(held: Held) -> None:
        first = await held.busy()
        gone, stays = held.ask(1), held.ask(2)
        await until(lambda: held.batcher.waiting()[0] == 2)
        gone.cancel()
        await until(lambda: held.batcher.waiting() == (1, 1))
        held.gate.set()
        assert await _gathered(first, stays) == [[0], [4]]

    assert driven(script).turns == [[0], [2]]


def test_a_fault_is_that_of_its_request() -> None:
    async def script(held: Held) -> None:
        first = await held.busy()
        bad, good = held.ask(-1), held.ask(2)
        await until(lambda: held.batcher.waiting()[0] == 2)
        held.gate.set()
        found = await _gathered(first, bad, good)
        assert (found[0], found[2]) == ([0], [4])
        assert isinstance(found[1], ValueError)

    assert driven(script).turns == [[0], [-1, 2], [-1], [2]]


@pytest.mark.parametrize("settings", [{"max_requests": 2}, {"max_tokens": 2}])
def test_a_full_queue_says_when_to_come_again(settings: dict[str, int]) -> None:
    async def script(held: Held) -> None:
        first = await held.busy()
        tasks = [held.ask(1), held.ask(2)]
        await until(lambda: held.batcher.waiting()[0] == 2)
        with pytest.raises(Refusal, match="2 requests with 2 tokens are waiting") as refused:
            await held.ask(3)
        assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
        held.gate.set()
        assert await _gathered(first, *tasks) == [[0], [1], [4]]

    driven(script, **settings)


def test_a_request_above_the_queues_size_is_taken_when_nothing_waits() -> None:
    async def script(held: Held) -> None:
        held.gate.set()
        assert await held.ask(1, 2, tokens=2_000) == [1, 4]

    driven(script)


def test_after_the_end() -> None:
    async def script(held: Held) -> None:
        held.batcher.close()
        with pytest.raises(Refusal, match="stopping"):
            await held.ask(1)

    assert driven(script).turns == []
