"""What every encoder can do, whatever it is made of. Light: numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Side = Literal["query", "passage"]
Similarity = Literal["cosine", "dot"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors of n texts, row i for text i. Each kind is None when the encoder does not make it.

    ``dense`` is float32 of shape (n, dimension), finite, of unit length when the similarity is cosine (a text without
    tokens stays a zero row).
    """

    dense: NDArray[np.float32] | None
    sparse: Any = None
    multi_vector: Any = None


class Encoder(Protocol):
    """Turns queries and passages into vectors whose similarity ranks passages for a query."""

    def fingerprint_of(self, side: Side) -> str:
        """Hash of the weights, tokenizer, pooling, prompts and similarity that make one side's vectors; they mix only
        where it is equal. The same for both sides unless each has an encoder of its own."""

    @property
    def similarity(self) -> Similarity: ...

    def encode_queries(self, texts: Sequence[str]) -> Encoded: ...

    def encode_passages(self, texts: Sequence[str]) -> Encoded: ...
