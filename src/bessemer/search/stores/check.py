"""What no engine may be given: broken vectors, wrong shapes, repeated ids. Engines differ in what they would let in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.encoders.token_vectors import TokenVectors
from bessemer.search.stores.store import Layout, Stored

TERMS = 1 << 31
"""Term ids are below this: the most that every engine takes."""


def check_stored(batch: Stored, layout: Layout) -> None:
    """Raises ValueError with everything that is wrong with ``batch``; every engine's ``upsert`` begins with it."""
    faults = list(_faults(batch, layout))
    if faults:
        raise ValueError("; ".join(faults))


def _faults(batch: Stored, layout: Layout) -> Iterator[str]:
    n = len(batch.passages)
    passage_ids = Counter(passage.passage_id for passage in batch.passages)
    repeated = [passage_id for passage_id, count in passage_ids.items() if count > 1]
    if repeated:
        yield f"{len(repeated)} passage ids stand twice, as {repeated[0]!r}"
    if "" in passage_ids:
        yield "a passage has no id"
    if len(batch.text_hashes) != n:
        yield f"{len(batch.text_hashes)} text hashes for {n} passages"
    encoded = batch.encoded
    yield from _of_vectors("dense vectors", encoded.dense, (n, layout.dimension))
    yield from _of_rows("BM25 weights", batch.bm25, n)
    if batch.bm25.shape[1] > TERMS:
        yield f"BM25 weights of {batch.bm25.shape[1]} terms, where {TERMS} are the most"
    if layout.has_sparse:
        yield from _of_rows("sparse vectors", encoded.sparse, n)
    elif encoded.sparse is not None:
        yield "sparse vectors, where this generation has none"
    if layout.token_dimension is not None:
        yield from _of_token_vectors(encoded.multi_vector, layout, n)
    elif encoded.multi_vector is not None:
        yield "multi-vectors, where this generation has none"


def _of_vectors(name: str, vectors: NDArray[np.float32] | None, shape: tuple[int, int]) -> Iterator[str]:
    if vectors is None:
        yield f"{name} are missing"
    elif vectors.shape != shape or vectors.dtype != np.float32:
        yield f"{name} are {vectors.dtype} {vectors.shape}, where float32 {shape} belong"
    elif not np.isfinite(vectors).all():
        yield f"{name} hold NaN or infinite values"


def _of_rows(name: str, rows: sp.csr_array | None, n: int) -> Iterator[str]:
    if rows is None:
        yield f"{name} are missing"
    elif rows.shape[0] != n:
        yield f"{name} of {rows.shape[0]} passages for {n}"
    elif not np.isfinite(rows.data).all():
        yield f"{name} hold NaN or infinite values"


def _of_token_vectors(vectors: TokenVectors | None, layout: Layout, n: int) -> Iterator[str]:
    if vectors is None:
        yield "multi-vectors are missing"
    elif len(vectors) != n:
        yield f"multi-vectors of {len(vectors)} passages for {n}"
    elif (vectors.dimension, vectors.precision) != (layout.token_dimension, layout.token_precision):
        found = f"{vectors.precision} ({vectors.dimension})"
        yield f"multi-vectors are {found}, where {layout.token_precision} ({layout.token_dimension}) belong"
    elif not is_finite(vectors):
        yield "multi-vectors hold NaN or infinite values"


def is_finite(vectors: TokenVectors) -> bool:
    """Block by block: all at once in float32 might be many times what they take as they are kept."""
    n = len(vectors)
    return all(np.isfinite(vectors.floats(start, min(start + 256, n))).all() for start in range(0, n, 256))
