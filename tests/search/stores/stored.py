"""Random passages with all kinds of vectors, for tests of engines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import Precision, TokenVectors
from bessemer.search.stores.store import Layout, Stored
from bessemer.types import Passage

DIMENSION, VOCABULARY, TOKEN_DIMENSION = 8, 50, 4
DENSE = Layout(DIMENSION)
UNIFIED = Layout(DIMENSION, True, TOKEN_DIMENSION, "float16")


def stored(passage_ids: Sequence[str], seed: int, layout: Layout = DENSE) -> Stored:
    """Metadata: ``year`` 2020 to 2023, ``source`` a or b."""
    rng = np.random.default_rng(seed)
    n = len(passage_ids)
    passages = [
        Passage(key, f"d-{key}", f"text {key} {seed}", metadata={"year": 2020 + i % 4, "source": "ab"[i % 2]})
        for i, key in enumerate(passage_ids)
    ]
    encoded = Encoded(
        unit(rng, n),
        sparse_rows(rng, n, VOCABULARY) if layout.has_sparse else None,
        token_vectors(rng, n, layout.token_precision) if layout.token_dimension else None,
    )
    return Stored(passages, [f"hash {p.text}" for p in passages], encoded, terms(rng, n))


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    vectors = rng.standard_normal((n, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def sparse_rows(rng: np.random.Generator, n: int, width: int) -> sp.csr_array:
    dense = rng.random((n, width)) * (rng.random((n, width)) < 0.2)
    return sp.csr_array(dense.astype(np.float32))


def terms(rng: np.random.Generator, n: int) -> sp.csr_array:
    """Some of their ids are near 2^31."""
    rows = sparse_rows(rng, n, VOCABULARY)
    far = np.where(rows.indices % 3 == 0, 2**31 - 1 - rows.indices.astype(np.int64), rows.indices)
    found = sp.csr_array((rows.data, far, rows.indptr), shape=(n, 1 << 31))
    found.sort_indices()
    return found


def token_vectors(rng: np.random.Generator, n: int, precision: Precision = "float32") -> TokenVectors:
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 6, n))])
    rows = rng.standard_normal((offsets[-1], TOKEN_DIMENSION))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return TokenVectors(rows, offsets, np.arange(offsets[-1], dtype=np.int32)).stored_as(precision)
