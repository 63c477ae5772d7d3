"""A real, small encoder for tests: words hashed to fixed random directions, averaged. Not a mock: it ranks by words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from bessemer.encoders.encoder import Encoded
from bessemer.search.analyzer import analyze


class HashedWords:
    def __init__(self, salt: str = "", similarity: Literal["cosine", "dot"] = "cosine") -> None:
        self.salt = salt
        self.similarity: Literal["cosine", "dot"] = similarity
        self.n_encoded = 0

    def fingerprint_of(self, side: str) -> str:
        return hashlib.sha256(f"{self.salt}:{self.similarity}".encode()).hexdigest()

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        vectors = np.stack([self._sum(text) for text in texts]).astype(np.float32)
        if self.similarity == "cosine":
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(norms > 0, norms, 1)
        return Encoded(dense=vectors)

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        self.n_encoded += len(texts)
        return self.encode_queries(texts)

    def _sum(self, text: str) -> np.ndarray:
        return np.sum([np.zeros(64), *(self._direction(token) for token in analyze(text))], axis=0)

    def _direction(self, token: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(f"{self.salt}{token}".encode()).digest()[:8], "big")
        return np.random.default_rng(seed).standard_normal(64)
