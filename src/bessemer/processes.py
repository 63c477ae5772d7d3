"""The processes of one run: the first one finds, decides and writes, and the others learn of it.

torchrun starts the same command several times. Only training needs all of them at once (training/shares.py); the rest
of a recipe is done by the first process while the others wait.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""Of those who wait for the first process, which may mine for hours. When it dies, the launcher ends them."""
PIECE = 4 << 20
"""Characters per value of a store: torch's refuses 8 MiB."""


class Store(Protocol):
    """What all processes can reach: of torch.distributed."""

    def set(self, key: str, value: str) -> None: ...
    def wait(self, keys: list[str], timeout: timedelta) -> None: ...
    def get(self, key: str) -> bytes: ...


class Processes:
    """``n`` processes of which this is number ``rank``. All of them make the same calls in the same order.

    Without a launcher there is one, which waits for nobody.
    """

    def __init__(self, rank: int = 0, n: int = 1, store: Store | None = None) -> None:
        assert n == 1 or store is not None, "several processes need a store"
        self.rank, self.n = rank, n
        self._store = store
        self._n_calls = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def from_first(self, find: Callable[[], T]) -> T:
        """What ``find`` returns in the first process, the only one that calls it; its type must survive JSON."""
        if self._store is None:
            return find()
        key = self._next_key()
        if self.is_first:
            found = find()
            text = json.dumps(found)
            pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
            for i, piece in enumerate(pieces):
                self._store.set(f"{key}/{i}", piece)
            self._store.set(key, str(len(pieces)))
            return found
        n_pieces = int(self._awaited(key))
        found_there: Any = json.loads(b"".join(self._awaited(f"{key}/{i}") for i in range(n_pieces)))
        return found_there  # type: ignore[no-any-return]

    def let_go(self) -> None:
        """The others wait until the first process comes here."""
        self.from_first(lambda: None)

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        """The first process goes through this part, then all others do: they find on disk what it wrote, and its errors
        are told once, because the others have not begun."""
        if self._store is None:
            yield
            return
        key = self._next_key()  # taken on entry, so that parts may lie within each other
        if not self.is_first:
            self._awaited(key)
        yield
        if self.is_first:
            self._store.set(key, "through")

    def _next_key(self) -> str:
        self._n_calls += 1
        return f"bessemer/{self._n_calls}"

    def _awaited(self, key: str) -> bytes:
        assert self._store is not None
        self._store.wait([key], PATIENCE)
        return self._store.get(key)


def started() -> tuple[int, int]:
    """(rank, number of processes), as torchrun tells every process that it starts; (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
