"""What no engine is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from stored import DENSE, DIMENSION, UNIFIED, stored

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.search.stores.check import check_stored
from bessemer.search.stores.store import Stored


def batch() -> Stored:
    return stored(["a", "b"], 0, UNIFIED)


def with_parts(**parts: object) -> Stored:
    return replace(batch(), encoded=replace(batch().encoded, **parts))


def test_good_batches_pass() -> None:
    check_stored(batch(), UNIFIED)
    check_stored(stored(["a"], 0), DENSE)
    check_stored(stored([], 0), DENSE)


def test_each_fault_is_named() -> None:
    tokens = batch().encoded.multi_vector
    assert tokens is not None
    broken_tokens = tokens.rows.copy()
    broken_tokens[1, 1] = np.inf
    infinite = sp.csr_array(np.full((2, 3), np.inf, dtype=np.float32))
    nan = np.full((2, DIMENSION), np.nan, dtype=np.float32)
    for faulty, words in (
        (stored(["a", "a"], 0, UNIFIED), "1 passage ids stand twice, as 'a'"),
        (stored(["", "a"], 0, UNIFIED), "no id"),
        (replace(batch(), text_hashes=["x"]), "1 text hashes for 2 passages"),
        (replace(batch(), bm25=infinite), "BM25 weights hold NaN"),
        (replace(batch(), bm25=batch().bm25[:1]), "BM25 weights of 1 passages for 2"),
        (with_parts(dense=None), "dense vectors are missing"),
        (with_parts(dense=nan), "dense vectors hold NaN"),
        (with_parts(dense=nan[:, :3]), r"float32 \(2, 3\), where float32 \(2, 8\) belong"),
        (with_parts(dense=np.zeros((2, DIMENSION))), "dense vectors are float64"),
        (with_parts(sparse=None), "sparse vectors are missing"),
        (with_parts(sparse=infinite), "sparse vectors hold NaN"),
        (with_parts(multi_vector=None), "multi-vectors are missing"),
        (with_parts(multi_vector=tokens.of([0])), "multi-vectors of 1 passages for 2"),
        (with_parts(multi_vector=tokens.stored_as("float32")), "float32 .4., where float16 .4. belong"),
        (
            with_parts(multi_vector=TokenVectors(broken_tokens, tokens.offsets, tokens.token_ids, "float16")),
            "multi-vectors hold NaN",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            check_stored(faulty, UNIFIED)
    with pytest.raises(ValueError, match="sparse vectors, where this generation has none; multi-vectors, where"):
        check_stored(batch(), DENSE)
    with pytest.raises(ValueError, match="missing"):
        check_stored(replace(batch(), encoded=Encoded()), UNIFIED)
