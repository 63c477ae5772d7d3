"""How much of two texts is the same: hashed runs of words (Broder 1997)."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from bessemer.text import is_han, units

WORD_SHINGLE, HAN_SHINGLE = 3, 4  # units: words, or Chinese characters


def shingles(text: str, n: int | None = None) -> NDArray[np.uint64]:
    """Sorted distinct hashes of runs of ``n`` units (default: 3 words, or 4 characters of a Chinese text).

    A text shorter than ``n`` has one shingle, the whole of it; a text without words has that of the empty string.
    """
    size = n or (HAN_SHINGLE if is_han(text) else WORD_SHINGLE)
    words = units(text)
    hashes = np.array([zlib.crc32(word.encode("utf-8")) for word in words] or [0], dtype=np.uint64)
    size = min(size, len(hashes))
    rolling = np.zeros(len(hashes) - size + 1, dtype=np.uint64)
    for offset in range(size):  # polynomial in 64 bits that wrap around, with a final mix
        rolling = rolling * np.uint64(0x9E3779B97F4A7C15) + hashes[offset : offset + len(rolling)] + np.uint64(1)
    rolling ^= rolling >> np.uint64(31)
    rolling *= np.uint64(0xBF58476D1CE4E5B9)
    rolling ^= rolling >> np.uint64(29)
    return np.unique(rolling)


def jaccard(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)
