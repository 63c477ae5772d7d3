"""Dynamic batching: what waits when the model is free is computed together, up to a number of tokens.

There is no fixed wait: a request that finds the model idle is computed at once, and those that come meanwhile form the
next turn. Within a turn the encoder itself sorts texts by length, so that little is padded.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bessemer.serving.refusal import Refusal, busy

logger = logging.getLogger("bessemer.serve")


@dataclass(frozen=True, eq=False)
class Lane:
    """What can be computed together: ``compute`` of items gives a result that ``part`` cuts by items and ``join`` puts
    together again."""

    compute: Callable[[list[Any]], Any]
    part: Callable[[Any, slice], Any]
    join: Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Turn:
    """For metrics: what was computed together, and for how long."""

    n_requests: int
    n_items: int
    n_tokens: int
    seconds: float


@dataclass(eq=False)
class _Job:
    lane: Lane
    items: Sequence[Any]
    tokens: Sequence[int]
    future: asyncio.Future[Any]
    n_taken: int = 0
    parts: list[Any] = field(default_factory=list)

    @property
    def n_waiting(self) -> int:
        """Tokens of the items that nobody has taken yet."""
        return sum(self.tokens[self.n_taken :])

    def take(self, budget: int) -> _Piece:
        """The next items, of ``budget`` tokens at most, but one at least."""
        start, spent = self.n_taken, 0
        while self.n_taken < len(self.items):
            spent += self.tokens[self.n_taken]
            if spent > budget and self.n_taken > start:
                break
            self.n_taken += 1
        return _Piece(self, slice(start, self.n_taken))

    @property
    def is_taken(self) -> bool:
        return self.n_taken == len(self.items)


@dataclass(frozen=True)
class _Piece:
    job: _Job
    rows: slice

    @property
    def items(self) -> Sequence[Any]:
        return self.job.items[self.rows]

    @property
    def n_tokens(self) -> int:
        return sum(self.job.tokens[self.rows])


class Batcher:
    """One thread that computes, and the requests that wait for it, each with its share of every turn: a small one is
    not held up by a large one."""

    def __init__(self, turn_tokens: int, max_requests: int, max_tokens: int, watch: Callable[[Turn], None]) -> None:
        """``max_requests`` and ``max_tokens`` may wait; ``watch`` is told of every turn, in the thread."""
        self._turn_tokens, self._max_requests, self._max_tokens = turn_tokens, max_requests, max_tokens
        self._watch = watch
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._tokens_per_second = 5_000.0  # a guess until the first turn
        self._thread = threading.Thread(target=self._work, name="bessemer-batcher", daemon=True)
        self._thread.start()

    async def run(self, lane: Lane, items: Sequence[Any], tokens: Sequence[int]) -> Any:
        """The result for ``items``, of which each costs ``tokens[i]``. Raises Refusal where too much is waiting, and
        whatever ``lane.compute`` raises for these items. Who is cancelled while waiting leaves the queue."""
        loop = asyncio.get_running_loop()
        job = _Job(lane, items, tokens, loop.create_future())
        with self._changed:
            self._admit(job)
            self._jobs.append(job)
            self._changed.notify()
        try:
            return await job.future
        finally:
            if not job.is_taken:
                self._leave(job)

    def waiting(self) -> tuple[int, int]:
        """(requests, tokens)."""
        with self._changed:
            return len(self._jobs), sum(job.n_waiting for job in self._jobs)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Finish the turn in hand and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _admit(self, job: _Job) -> None:
        if self._is_closed:
            raise Refusal(503, "the service is stopping", "stopping")
        waiting = sum(other.n_waiting for other in self._jobs)
        if self._jobs and (len(self._jobs) >= self._max_requests or waiting + job.n_waiting > self._max_tokens):
            seconds = max(1, math.ceil(waiting / self._tokens_per_second))
            raise busy(f"{len(self._jobs)} requests with {waiting} tokens are waiting; try again later", seconds)

    def _leave(self, job: _Job) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    def _work(self) -> None:
        while pieces := self._next_turn():
            started = time.perf_counter()
            self._compute(pieces)
            seconds = time.perf_counter() - started
            n_tokens = sum(piece.n_tokens for piece in pieces)
            self._tokens_per_second += 0.2 * (n_tokens / max(seconds, 1e-6) - self._tokens_per_second)
            self._watch(Turn(len(pieces), sum(len(piece.items) for piece in pieces), n_tokens, seconds))

    def _next_turn(self) -> list[_Piece]:
        """Pieces of all that wait in the lane of the one that has waited longest; none when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_closed)
            if self._is_closed:
                for job in self._jobs:
                    _settle(job.future, Refusal(503, "the service is stopping", "stopping"))
                return []
            lane = self._jobs[0].lane
            here = [job for job in self._jobs if job.lane is lane]
            share, left, pieces = max(1, self._turn_tokens // len(here)), self._turn_tokens, list[_Piece]()
            for job in here:
                if left <= 0:
                    break
                pieces.append(job.take(share))
                left -= pieces[-1].n_tokens
            for piece in pieces:  # what is left of a job goes to the end: other lanes and requests come first
                self._jobs.remove(piece.job)
                if not piece.job.is_taken:
                    self._jobs.append(piece.job)
            return pieces

    def _compute(self, pieces: Sequence[_Piece]) -> None:
        lane = pieces[0].job.lane
        try:
            result = lane.compute([item for piece in pieces for item in piece.items])
        except Exception as error:
            if len(pieces) == 1:
                self._fail(pieces[0].job, error)
            else:  # it is the fault of one of them, and the others shall not pay
                for piece in pieces:
                    self._compute([piece])
            return
        start = 0
        for piece in pieces:
            stop = start + len(piece.items)
            self._put(piece, lane.part(result, slice(start, stop)))
            start = stop

    def _put(self, piece: _Piece, part: Any) -> None:
        job = piece.job
        job.parts.append(part)
        if piece.rows.stop == len(job.items):
            _settle(job.future, job.parts[0] if len(job.parts) == 1 else job.lane.join(job.parts))

    def _fail(self, job: _Job, error: Exception) -> None:
        self._leave(job)
        _settle(job.future, error)


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    """From another thread: the result, or the exception, of a future that may be cancelled meanwhile."""

    def settle() -> None:
        if future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    try:
        future.get_loop().call_soon_threadsafe(settle)
    except RuntimeError:  # the loop is closed: nobody waits any more
        logger.debug("a result came after the end")
