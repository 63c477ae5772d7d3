"""Seeded draws that do not depend on how much else is drawn: growth of the data moves no earlier choice."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def digest(seed: int, key: str) -> bytes:
    """32 bytes that look random and always are the same for (seed, key): sorting by them is a seeded shuffle."""
    return hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogatepass")).digest()


def uniform(seed: int, key: str) -> float:
    """A number in [0, 1) for each key. Splits stand by it: what it gives for a key must never change."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64


def generator(seed: int, key: str) -> np.random.Generator:
    """A generator of its own for each key."""
    return np.random.default_rng(int.from_bytes(digest(seed, key)[:8], "big"))


def weighted_order(probabilities: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.int64]:
    """All indices in the order of a weighted draw without replacement (Efraimidis and Spirakis 2006): the first n are
    a draw of n. Those of probability 0 come last."""
    waits = random.exponential(size=len(probabilities))
    return np.argsort(waits / np.maximum(probabilities, 1e-300), kind="stable")
