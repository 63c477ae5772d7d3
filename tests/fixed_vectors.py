"""An encoder that looks vectors up: what mining sees is then known to the last digit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from bessemer.encoders.encoder import Encoded


class FixedVectors:
    similarity: Literal["cosine", "dot"] = "dot"

    def __init__(self, vectors: Mapping[str, Sequence[float]]) -> None:
        self._vectors = vectors

    def fingerprint_of(self, side: str) -> str:
        return "fixed"

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        width = len(next(iter(self._vectors.values())))
        rows = [self._vectors[text] for text in texts]
        return Encoded(dense=np.array(rows, dtype=np.float32).reshape(len(texts), width))

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        return self.encode_queries(texts)
