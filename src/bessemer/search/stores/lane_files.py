"""Sparse rows and multi-vectors of a segment on disk, beside its dense vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.search.stores.check import is_finite
from bessemer.search.stores.store import Layout

SPARSE, MULTI_VECTOR = "sparse.npz", "multi_vector.npz"


def write_lanes(folder: Path, encoded: Encoded) -> None:
    """The files of those lanes that there are."""
    if encoded.sparse is not None:
        write_sparse(folder / SPARSE, encoded.sparse)
    if encoded.multi_vector is not None:
        vectors = encoded.multi_vector
        arrays = {"rows": vectors.rows, "offsets": vectors.offsets, "token_ids": vectors.token_ids}
        if vectors.scales is not None:
            arrays["scales"] = vectors.scales
        np.savez(folder / MULTI_VECTOR, allow_pickle=False, **arrays)


def read_lanes(folder: Path, layout: Layout, n: int) -> Encoded:
    """What ``write_lanes`` wrote for n passages, without dense vectors. Raises OSError, ValueError or KeyError where
    files are missing, damaged or do not fit together."""
    sparse = read_sparse(folder / SPARSE, n) if layout.has_sparse else None
    multi_vector = _read_multi_vector(folder / MULTI_VECTOR, layout, n) if layout.token_dimension is not None else None
    return Encoded(None, sparse, multi_vector)


def write_sparse(file: Path, rows: sp.csr_array) -> None:
    indices = rows.indices.astype(np.int32, copy=False)  # 2^31 columns at most
    np.savez(file, data=rows.data, indices=indices, indptr=rows.indptr, width=rows.shape[1])


def read_sparse(file: Path, n: int) -> sp.csr_array:
    with np.load(file, allow_pickle=False) as arrays:
        shape = (n, int(arrays["width"]))
        rows = sp.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    rows.check_format(full_check=True)  # a wrong column number would read past the end
    if not np.isfinite(rows.data).all():
        raise ValueError("sparse weights hold NaN or infinite values")
    return rows


def _read_multi_vector(file: Path, layout: Layout, n: int) -> TokenVectors:
    precision = layout.token_precision
    with np.load(file, allow_pickle=False) as arrays:
        scales = arrays["scales"] if precision == "int8" else None
        vectors = TokenVectors(arrays["rows"], arrays["offsets"], arrays["token_ids"], precision, scales)
    n_tokens = len(vectors.rows)
    kept = np.dtype("uint16" if precision == "bfloat16" else precision)
    fits = vectors.rows.shape == (n_tokens, layout.token_dimension) and vectors.rows.dtype == kept
    fits &= len(vectors.token_ids) == n_tokens
    fits &= vectors.offsets.shape == (n + 1,) and vectors.offsets[0] == 0 and vectors.offsets[-1] == n_tokens
    fits &= bool((np.diff(vectors.offsets) >= 0).all())
    fits &= scales is None or scales.shape == (n_tokens,)
    if not fits:
        raise ValueError(f"multi-vectors of {n_tokens} tokens do not fit {n} passages")
    if not is_finite(vectors):
        raise ValueError("multi-vectors hold NaN or infinite values")
    return vectors
