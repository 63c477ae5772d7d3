"""An index in a server: a collection for every generation, one for facts, and an alias for the live generation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Protocol

from bessemer.errors import ArtifactError
from bessemer.search.stores.chunked_contents import Records, read_contents, remove_contents, write_contents
from bessemer.search.stores.generation_names import checked_name
from bessemer.search.stores.store import Layout, VectorStore

_GENERATION = "__g_"
_ENCODED = {"_": "_u", "-": "_d"}
_DECODED = {code: letter for letter, code in _ENCODED.items()}


class Cluster(Protocol):
    """What an index asks of a server, beside the searching."""

    def create(self, collection: str, layout: Layout) -> None: ...

    def drop(self, collection: str) -> None:
        """With what belongs to it. One that is not there is no error."""
        ...

    def collections(self) -> list[str]: ...

    def point_alias(self, alias: str, collection: str) -> None: ...

    def finish(self, collection: str) -> None:
        """The generation is whole: what makes the searches fast may be done now."""
        ...

    def store(self, collection: str, layout: Layout) -> VectorStore: ...

    def records(self, collection: str) -> Records:
        """Made where they are not there."""
        ...

    def close(self) -> None: ...


class ClusterEngine:
    """See `bessemer.search.stores.store.Engine`. A generation is finished when its layout is among the facts."""

    def __init__(
        self,
        engine: str,
        location: str,
        index: str,
        cluster: Cluster,
        lock: Callable[[Records, str], AbstractContextManager[None]],
    ) -> None:
        self.name = engine
        self.location = location
        self._index = index
        self._cluster = cluster
        self._lock = lock
        self._facts = cluster.records(f"{index}__facts")

    def lock(self) -> AbstractContextManager[None]:
        return self._lock(self._facts, self.location)

    def create(self, generation: str, layout: Layout) -> VectorStore:
        self.drop(generation)
        collection = self._collection(generation)
        self._cluster.create(collection, layout)
        write_contents(self._facts, {_layout(generation): json.dumps(asdict(layout)).encode()})
        return self._cluster.store(collection, layout)

    def open(self, generation: str) -> VectorStore:
        collection = self._collection(generation)
        found = self._read(_layout(generation))
        if found is None or collection not in self._cluster.collections():
            raise ArtifactError(f"{self.location}: no finished index ({generation} is not there); build it again")
        return self._cluster.store(collection, Layout(**json.loads(found)))

    def drop(self, generation: str) -> None:
        remove_contents(self._facts, [_layout(generation)])
        self._cluster.drop(self._collection(generation))

    def generations(self) -> list[str]:
        start = f"{self._index}{_GENERATION}"
        names = [name.removeprefix(start) for name in self._cluster.collections() if name.startswith(start)]
        return sorted(re.sub("_[ud]", lambda code: _DECODED[code[0]], name) for name in names)

    def switch(self, generation: str) -> None:
        collection = self._collection(generation)
        self._cluster.finish(collection)
        self._cluster.point_alias(self._index, collection)

    def read_fact(self, name: str) -> bytes | None:
        return self._read(f"fact {checked_name(name, self.location)}")

    def write_fact(self, name: str, content: bytes) -> None:
        key = f"fact {checked_name(name, self.location)}"
        if content:
            write_contents(self._facts, {key: content})
        else:
            remove_contents(self._facts, [key])

    def close(self) -> None:
        self._cluster.close()

    def _read(self, name: str) -> bytes | None:
        return read_contents(self._facts, [name], self.location).get(name)

    def _collection(self, generation: str) -> str:
        name = checked_name(generation, self.location)
        return f"{self._index}{_GENERATION}" + re.sub("[_-]", lambda letter: _ENCODED[letter[0]], name)


def _layout(generation: str) -> str:
    return f"layout {generation}"
