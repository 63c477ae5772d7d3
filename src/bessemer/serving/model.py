"""A model behind the batcher: texts in, vectors out, with what was read of every text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded, Encoder, Output, Side
from bessemer.search.encoded_texts import join_texts, texts_of, unified_in
from bessemer.serving.batching import Batcher, Lane
from bessemer.serving.logs import Facts
from bessemer.serving.refusal import Refusal

AT_ONCE = 4_000
"""Characters whose tokens are counted sooner than a thread is begun."""


class ServedEncoder(Encoder, Protocol):
    """An encoder that can say beforehand how much of a text it will read."""

    max_length: int | None
    query_max_length: int | None
    device: str

    @property
    def dimension(self) -> int: ...

    def lengths(self, texts: Sequence[str], side: Side) -> list[int]: ...


class Reranker(Protocol):
    """A cross-encoder."""

    name: str

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]: ...

    def are_cut(self, pairs: Sequence[tuple[str, str]]) -> list[bool]: ...


@dataclass(frozen=True)
class Limits:
    """Of one request."""

    max_items: int
    max_tokens: int

    def check_items(self, n: int) -> None:
        """Raises Refusal."""
        if n > self.max_items:
            told = f"{n} texts in one request, at most {self.max_items} are taken; send them in several"
            raise Refusal(422, told, "too_many_items")

    def check_tokens(self, n: int) -> None:
        """Raises Refusal."""
        if n > self.max_tokens:
            told = f"{n} tokens in one request, at most {self.max_tokens} are taken; send them in several"
            raise Refusal(422, told, "too_many_tokens")


@dataclass(frozen=True)
class Read:
    """What the model reads of some texts: ``tokens`` of each, and whether it was ``truncated``."""

    tokens: Sequence[int]
    truncated: Sequence[bool]

    @property
    def n_tokens(self) -> int:
        return sum(self.tokens)


class Model:
    """One encoder that many requests share. ``outputs``: what it gives."""

    def __init__(
        self, name: str, encoder: ServedEncoder, outputs: tuple[Output, ...], batcher: Batcher, executor: Executor
    ) -> None:
        self.name, self.encoder, self.outputs = name, encoder, outputs
        self._batcher, self._executor = batcher, executor
        self._lanes: dict[tuple[Side, tuple[Output, ...]], Lane] = {}

    async def read(self, texts: Sequence[str], side: Side, limits: Limits, facts: Facts) -> Read:
        """Raises Refusal for more than ``limits`` allow. ``facts`` are told."""
        limits.check_items(facts.items + len(texts))
        if sum(map(len, texts)) <= AT_ONCE:
            lengths = self.encoder.lengths(texts, side)
        else:
            lengths = await off_loop(self._executor, self.encoder.lengths, texts, side)
        limit = self.encoder.query_max_length if side == "query" else self.encoder.max_length
        read = Read(
            [n if limit is None else min(n, limit) for n in lengths], [bool(limit and n > limit) for n in lengths]
        )
        limits.check_tokens(facts.tokens + read.n_tokens)
        facts.items += len(texts)
        facts.tokens += read.n_tokens
        facts.truncated += sum(read.truncated)
        return read

    async def encode(self, texts: Sequence[str], side: Side, outputs: tuple[Output, ...], read: Read) -> Encoded:
        """As the library's own ``encode_queries`` and ``encode_passages``, whatever is computed beside it."""
        encoded: Encoded = await self._batcher.run(self._lane(side, outputs), texts, read.tokens)
        return encoded

    def _lane(self, side: Side, outputs: tuple[Output, ...]) -> Lane:
        key = (side, outputs)
        if key not in self._lanes:
            encode: Callable[..., Encoded] = getattr(
                self.encoder, f"encode_{'queries' if side == 'query' else 'passages'}"
            )
            if unified_in(self.encoder) is not None:
                encode = partial(encode, outputs=outputs)
            self._lanes[key] = Lane(encode, texts_of, join_texts)
        return self._lanes[key]


def pair_lane(reranker: Reranker) -> Lane:
    """Pairs of texts to scores (n,) and whether each was cut."""

    def compute(pairs: list[Any]) -> NDArray[np.float64]:
        return np.stack([reranker(pairs), np.array(reranker.are_cut(pairs), dtype=np.float64)], axis=1)

    return Lane(compute, lambda found, rows: found[rows], np.concatenate)


async def off_loop(executor: Executor, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What takes a moment, in a thread, so that other requests go on."""
    return await asyncio.get_running_loop().run_in_executor(executor, partial(function, *given, **named))
