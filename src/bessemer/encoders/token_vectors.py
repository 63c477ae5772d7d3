"""Vectors of all tokens of many texts, in one matrix, in the precision in which they are kept. Light: numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["float32", "float16", "bfloat16", "int8"]


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """The multi-vectors of n texts: text i has the rows ``offsets[i]:offsets[i + 1]``, which may be none.

    rows       (T, m)  in ``precision``; bfloat16 as the upper 16 bits of a float32, in uint16.
    offsets    (n+1,)  int64, from 0 to T, never falling.
    token_ids  (T,)    int32, the token that each row stands for.
    scales     (T,)    float32 for int8 (a row is its integers times its scale), else None.
    """

    rows: NDArray[Any]
    offsets: NDArray[np.int64]
    token_ids: NDArray[np.int32]
    precision: Precision = "float32"
    scales: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def dimension(self) -> int:
        return int(self.rows.shape[1])

    @property
    def n_bytes(self) -> int:
        """Of the vectors, scales included."""
        return self.rows.nbytes + (self.scales.nbytes if self.scales is not None else 0)

    def floats(self, start: int, end: int) -> NDArray[np.float32]:
        """(n_tokens, m) float32: the vectors of the texts from ``start`` up to ``end``."""
        some = slice(self.offsets[start], self.offsets[end])
        rows = self.rows[some]
        if self.precision == "bfloat16":
            return (rows.astype(np.uint32) << 16).view(np.float32)
        if self.scales is not None:
            return rows.astype(np.float32) * self.scales[some, None]
        return rows.astype(np.float32, copy=False)

    def of(self, texts: Sequence[int] | NDArray[np.int64]) -> TokenVectors:
        """Those of some texts, in the order given."""
        chosen = np.asarray(texts, dtype=np.int64)
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.repeat(self.offsets[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
        scales = None if self.scales is None else self.scales[rows]
        return TokenVectors(self.rows[rows], offsets, self.token_ids[rows], self.precision, scales)

    def stored_as(self, precision: Precision) -> TokenVectors:
        """The same in another precision: float16 and bfloat16 round to nearest, int8 by the largest number of each
        row (a row of zeros stays one)."""
        rows = self.floats(0, len(self))
        if precision == "int8":
            scales = (np.abs(rows).max(axis=1, initial=0) / 127).astype(np.float32)
            divisors = np.where(scales > 0, scales, 1)[:, None]
            integers = np.rint(rows / divisors).astype(np.int8)
            return TokenVectors(integers, self.offsets, self.token_ids, precision, scales)
        if precision == "bfloat16":
            bits = np.ascontiguousarray(rows).view(np.uint32)
            upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
            return TokenVectors(upper, self.offsets, self.token_ids, precision)
        return TokenVectors(rows.astype(precision), self.offsets, self.token_ids, precision)


def joined(parts: Sequence[TokenVectors]) -> TokenVectors:
    """Texts of several after one another; all of one precision, at least one part."""
    ends = np.cumsum([0, *(part.offsets[-1] for part in parts)])
    offsets = np.concatenate([[0], *(part.offsets[1:] + start for part, start in zip(parts, ends, strict=False))])
    scales = [part.scales for part in parts if part.scales is not None]
    return TokenVectors(
        np.concatenate([part.rows for part in parts]),
        offsets.astype(np.int64),
        np.concatenate([part.token_ids for part in parts]),
        parts[0].precision,
        np.concatenate(scales) if scales else None,
    )
