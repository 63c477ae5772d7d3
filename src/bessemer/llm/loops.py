"""Coroutines from code that is none, also where an event loop runs already, as in a notebook: then in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`."""
    return _off_any_loop(lambda: asyncio.run(coroutine))


def iterated(items: AsyncIterator[T]) -> Iterator[T]:
    """The ``items`` of an asynchronous generator, as they come. What is under way at an interruption is cancelled, and
    has ended when this ends."""
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                item = _off_any_loop(lambda: loop.run_until_complete(_next(items)))
            except StopAsyncIteration:
                return
            yield item
    finally:
        _off_any_loop(lambda: loop.run_until_complete(_ended(items)))
        loop.close()


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _ended(items: AsyncIterator[Any]) -> None:
    running = asyncio.all_tasks() - {asyncio.current_task()}
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await items.aclose()  # type: ignore[attr-defined]


def _off_any_loop(run: Callable[[], T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()
