"""Multi-vectors of one passage as fields of an engine, and back without loss."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.token_vectors import Precision, TokenVectors, joined

Floats = NDArray[np.float32]


def packed(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def unpacked(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def side_fields(vectors: TokenVectors, text: int) -> dict[str, str]:
    """What stands beside the vectors of one text: ``token_ids`` and, for int8, ``scales``."""
    some = slice(vectors.offsets[text], vectors.offsets[text + 1])
    fields = {"token_ids": packed(vectors.token_ids[some].astype("<i4"))}
    return fields if vectors.scales is None else fields | {"scales": packed(vectors.scales[some].astype("<f4"))}


def from_floats(rows: Floats, fields: dict[str, str], precision: Precision) -> TokenVectors:
    """One text from its vectors in float32 (n_tokens, m) and its `side_fields`: the very numbers that were kept in
    ``precision``, as every one of them is a float32. A text without tokens may come with a row of zeros."""
    token_ids = unpacked(fields["token_ids"], "<i4").astype(np.int32)
    offsets = np.array([0, len(token_ids)])
    rows = rows[: len(token_ids)]
    if precision == "int8":
        scales = unpacked(fields["scales"], "<f4").astype(np.float32)
        integers = np.rint(rows / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
        return TokenVectors(integers, offsets, token_ids, precision, scales)
    return TokenVectors(rows, offsets, token_ids).stored_as(precision)


def as_bytes(vectors: TokenVectors, text: int) -> bytes:
    """One text: its token ids, scales and rows after one another."""
    one = vectors.of([text])
    parts = [one.token_ids.astype("<i4")] + ([] if one.scales is None else [one.scales.astype("<f4")])
    return b"".join(part.tobytes() for part in (*parts, one.rows.astype(one.rows.dtype.newbyteorder("<"))))


def from_bytes(content: bytes, dimension: int, precision: Precision) -> TokenVectors:
    kind = np.dtype("uint16" if precision == "bfloat16" else precision)
    beside = 8 if precision == "int8" else 4
    n = len(content) // (beside + dimension * kind.itemsize)
    token_ids = np.frombuffer(content, "<i4", n).astype(np.int32)
    scales = np.frombuffer(content, "<f4", n, 4 * n).astype(np.float32) if precision == "int8" else None
    rows = np.frombuffer(content, kind.newbyteorder("<"), n * dimension, beside * n).reshape(n, dimension)
    return TokenVectors(rows.astype(kind), np.array([0, n]), token_ids, precision, scales)


def join_or_none(parts: Sequence[TokenVectors], dimension: int, precision: Precision) -> TokenVectors:
    """`joined`, also of no texts."""
    nothing = TokenVectors(np.zeros((0, dimension), np.float32), np.zeros(1, np.int64), np.zeros(0, np.int32))
    return joined(parts) if parts else nothing.stored_as(precision)
