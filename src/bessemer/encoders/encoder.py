"""What every encoder can do, whatever it is made of. Light: numpy and scipy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.encoders.token_vectors import TokenVectors
from bessemer.types import Passage

Side = Literal["query", "passage"]
Similarity = Literal["cosine", "dot"]
Output = Literal["dense", "sparse", "multi_vector"]
OUTPUTS: tuple[Output, ...] = ("dense", "sparse", "multi_vector")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors of n texts, row i for text i. Each kind is None when the encoder does not make it.

    ``dense`` is float32 of shape (n, dimension), finite, of unit length when the similarity is cosine (a text without
    tokens stays a zero row). ``sparse`` is float32 of shape (n, vocabulary), finite, above zero where there is an
    entry, at most one entry per row and token id, ids rising. ``multi_vector`` holds one vector of unit length per
    token that counts. A sparse score is a dot product; a multi-vector score is the mean over the query's tokens of
    the largest dot product with a token of the passage (0 where either has none).
    """

    dense: NDArray[np.float32] | None = None
    sparse: sp.csr_array | None = None
    multi_vector: TokenVectors | None = None


class Encoder(Protocol):
    """Turns queries and passages into vectors whose similarity ranks passages for a query."""

    def fingerprint_of(self, side: Side) -> str:
        """Hash of the weights, tokenizer, pooling, prompts and similarity that make one side's vectors; they mix only
        where it is equal. The same for both sides unless each has an encoder of its own."""

    @property
    def similarity(self) -> Similarity: ...

    def encode_queries(self, texts: Sequence[str]) -> Encoded: ...

    def encode_passages(self, texts: Sequence[str]) -> Encoded: ...


@runtime_checkable
class ContextEncoder(Encoder, Protocol):
    """Reads a passage in its document."""

    def context_of(self, passage: Passage) -> str:
        """What its vector depends on besides the passage itself. Raises ConfigError where the document is not there."""

    def encode_in_context(self, passages: Sequence[Passage]) -> Encoded: ...


def may_search(encoder: Encoder, fingerprint: str) -> bool:
    """Whether query vectors of ``encoder`` may be compared with passage vectors of ``fingerprint``: its own, or those
    of a model that it says it stands for (a CPU build does)."""
    stands_for: Callable[[str], bool] | None = getattr(encoder, "stands_for", None)
    return stands_for(fingerprint) if stands_for else encoder.fingerprint_of("passage") == fingerprint
