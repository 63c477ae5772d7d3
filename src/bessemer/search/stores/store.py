"""What an index asks of the engine that keeps its passages and vectors. Light: numpy and scipy only.

An *engine* is a place where one index lives: a folder, a Milvus or a Qdrant cluster. It holds *generations*, each a
`VectorStore` of all passages under one model, and a few *facts* (the manifest, the lexicon) that say which generation
is searched and how. An index writes through these two protocols alone, so that what it promises, every engine keeps:

- what ``upsert`` or ``delete`` has returned from is on disk, and is there after a kill;
- higher scores are better, ties go by id descending, and a score is the number that the exact engine gives, up to the
  rounding of the engine's own storage;
- no vector with NaN, an infinite value or another dimension comes in: `check_stored` refuses it before the engine does,
  or does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import Precision, TokenVectors
from bessemer.types import Hits, Passage

SparseLane = Literal["sparse", "bm25"]
Operator = Literal["=", "!=", ">=", "<=", ">", "<"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on a passage's metadata, or on its ``doc_id``. ``=`` with several ``values``: any of them."""

    field: str
    operator: Operator
    values: tuple[str | int | float | bool, ...]


Filter = Sequence[Condition]
"""All of them must hold; none, and every passage does. A passage without the field meets ``!=`` alone."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What every passage of a generation has. ``token_dimension`` is None without multi-vectors."""

    dimension: int
    has_sparse: bool = False
    token_dimension: int | None = None
    token_precision: Precision = "float32"


@dataclass(frozen=True, slots=True)
class Stored:
    """n passages, row i of each part for passage i.

    ``encoded`` has dense vectors (n, dimension), float32, of unit length where the similarity is cosine, so that
    a dot product is the score; and sparse rows and multi-vectors where the layout says so. ``bm25`` is (n, 2^31),
    float32: the passage's part of the BM25 score under the id of every term.
    """

    passages: Sequence[Passage]
    text_hashes: Sequence[str]
    encoded: Encoded
    bm25: sp.csr_array


class VectorStore(Protocol):
    """One generation. Searches take Q queries and return one list each, at most ``top_k`` long, best first."""

    layout: Layout

    def upsert(self, batch: Stored) -> None:
        """Add passages, or replace those of the same ids. All of the batch, or an error and none of it."""
        ...

    def delete(self, passage_ids: Sequence[str]) -> None:
        """Ids that are not there are no error."""
        ...

    def rewrite_bm25(self, passage_ids: Sequence[str], weights: sp.csr_array) -> None:
        """Other BM25 weights for passages that are there: the rest of them stays."""
        ...

    def search_dense(self, queries: NDArray[np.float32], top_k: int, where: Filter = ()) -> list[Hits]:
        """By dot product with ``queries`` (Q, dimension)."""
        ...

    def search_sparse(self, lane: SparseLane, queries: sp.csr_array, top_k: int, where: Filter = ()) -> list[Hits]:
        """By dot product with ``queries`` (Q, ids); scores of 0 or less are no hits."""
        ...

    def search_multi_vector(self, queries: TokenVectors, top_k: int, where: Filter = ()) -> list[Hits]:
        """By MaxSim, the mean over the query's tokens. Raises ConfigError where the engine cannot."""
        ...

    def token_vectors(self, passage_ids: Sequence[str]) -> TokenVectors:
        """Multi-vectors of passages that are there, in the order given. Raises KeyError for one that is not."""
        ...

    def passages(self, passage_ids: Sequence[str]) -> list[Passage]:
        """In the order given. Raises KeyError for one that is not there."""
        ...

    def all_passages(self, batch_size: int = 1024) -> Iterator[list[Passage]]:
        """Every passage once, in any order."""
        ...

    def vectors(self, passage_ids: Sequence[str]) -> Encoded:
        """What ``upsert`` was given for them, as far as the engine's precision keeps it."""
        ...

    def text_hashes(self) -> Mapping[str, str]:
        """passage_id -> text hash, of every passage."""
        ...

    def count(self, where: Filter = ()) -> int: ...

    def stats(self) -> Mapping[str, Any]:
        """``passages``, ``bytes`` on disk (None where it cannot be told), and what else the engine tells of itself."""
        ...

    def snapshot(self, folder: Path) -> None:
        """A copy that can be opened by itself, in a folder that is not there yet. Raises ConfigError where the
        engine cannot."""
        ...

    def close(self) -> None: ...


class Engine(Protocol):
    """Where one index lives."""

    name: str
    location: str

    def lock(self) -> AbstractContextManager[None]:
        """One writer at a time. Raises ConfigError that names who holds it."""
        ...

    def create(self, generation: str, layout: Layout) -> VectorStore: ...

    def open(self, generation: str) -> VectorStore:
        """Raises ArtifactError where it is missing, damaged or not finished."""
        ...

    def drop(self, generation: str) -> None:
        """One that is not there is no error."""
        ...

    def generations(self) -> list[str]:
        """Of this index, unfinished ones included."""
        ...

    def switch(self, generation: str) -> None:
        """Point the engine's own alias, where it has one, at ``generation``, for those who search without us."""
        ...

    def read_fact(self, name: str) -> bytes | None:
        """None where there is none."""
        ...

    def write_fact(self, name: str, content: bytes) -> None:
        """As a whole or not at all, and on disk upon return. May be megabytes; empty: there is none any more."""
        ...

    def close(self) -> None: ...
