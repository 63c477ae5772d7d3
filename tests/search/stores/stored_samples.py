"""Passages with everything an engine might trip over, and the plain answers to searches over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import Precision, TokenVectors
from bessemer.search.stores.store import Layout, Stored
from bessemer.types import Hits, Passage

DIMENSION, TOKEN_DIMENSION, WIDTH = 8, 4, 1 << 31
LAYOUT = Layout(DIMENSION, has_sparse=True, token_dimension=TOKEN_DIMENSION)
PLAIN = Layout(DIMENSION)
ODD_IDS = ['quote"s', "back\\slash", "a/b#c", "中文编号", "é́", "line\nbreak", "x" * 300, " or 1 == 1", "🙂"]
METADATA = [
    {},
    {"lang": "zh", "year": 2021, "open": True},
    {"lang": "en", "year": 2019.5, "open": False},
    {"lang": "1", "year": "2020", "open": "true"},
    {"lang": 1, "year": 2020, "open": 1},
    {"lang": 'x" or true', "year": -3, "a.b[0]": "dotted", "": 0},
    {"lang": None, "year": [2020], "open": {"deep": [1, {"er": None}]}, "big": 2**62},
    {"lang": "中文", "year": 1e300, "open": True, "tiny": 0.1},
]


def sample(n: int, layout: Layout = LAYOUT, seed: int = 0) -> Stored:
    """Row 0 and 1, 2 and 3 ... have equal vectors: ties."""
    rng = np.random.default_rng(seed)
    ids = [*ODD_IDS, *(f"p{number}" for number in range(n))][:n]
    passages = [
        Passage(
            passage_id=passage_id,
            doc_id=f"doc {row % 3}",
            text="长江大桥。" * 2000 if row == 1 else f"text {row} \t é 中 🙂",
            title="" if row % 2 else "A title",
            start=row,
            end=row + 7,
            headings=("Top", "下") if row % 2 else (),
            metadata=METADATA[row % len(METADATA)],
        )
        for row, passage_id in enumerate(ids)
    ]
    twins = np.arange(n) // 2
    dense = rng.standard_normal((n, DIMENSION)).astype(np.float32)[twins]
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    tokens = token_sample(n, layout.token_precision, rng)
    encoded = Encoded(
        dense,
        sparse_sample(n, rng)[twins] if layout.has_sparse else None,
        tokens if layout.token_dimension is not None else None,
    )
    return Stored(passages, [f"hash {row}" for row in range(n)], encoded, sparse_sample(n, rng)[twins])


def sparse_sample(n: int, rng: np.random.Generator) -> sp.csr_array:
    """(n, 2^31): few of many ids, the largest among them; every fifth row is empty."""
    ids = np.array([0, 1, 5, 77, 30_000, 2**24 + 1, WIDTH - 2, WIDTH - 1])
    rows, columns = np.nonzero(rng.random((n, len(ids))) < 0.5)
    kept = rows % 5 != 4
    values = rng.random(int(kept.sum())).astype(np.float32) + 0.1
    return sp.csr_array((values, (rows[kept], ids[columns[kept]])), shape=(n, WIDTH))


def token_sample(n: int, precision: Precision, rng: np.random.Generator) -> TokenVectors:
    """Text 2 has no tokens."""
    lengths = np.array([0 if row == 2 else 1 + row % 4 for row in range(n)])
    rows = rng.standard_normal((lengths.sum(), TOKEN_DIMENSION)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenVectors(rows, offsets, np.arange(len(rows), dtype=np.int32)).stored_as(precision)


def of_rows(stored: Stored, rows: Sequence[int]) -> Stored:
    encoded = stored.encoded
    return replace(
        stored,
        passages=[stored.passages[row] for row in rows],
        text_hashes=[stored.text_hashes[row] for row in rows],
        encoded=Encoded(
            None if encoded.dense is None else encoded.dense[list(rows)],
            None if encoded.sparse is None else encoded.sparse[list(rows)],
            None if encoded.multi_vector is None else encoded.multi_vector.of(rows),
        ),
        bm25=stored.bm25[list(rows)],
    )


def plain_hits(stored: Stored, scores: np.ndarray, top_k: int, *, positive: bool = False) -> Hits:
    found = zip((passage.passage_id for passage in stored.passages), scores.tolist(), strict=True)
    ranked = sorted(((score, key) for key, score in found if score > 0 or not positive), reverse=True)
    return [(key, score) for score, key in ranked[:top_k]]


def plain_max_sim(query: np.ndarray, tokens: TokenVectors) -> np.ndarray:
    """(n,): the mean over the query's tokens of the largest product with a token of each text."""
    scores = np.zeros(len(tokens))
    for text in range(len(tokens)):
        rows = tokens.floats(text, text + 1).astype(np.float64)
        if len(rows):
            scores[text] = np.mean([max(float(token @ row) for row in rows) for token in query.astype(np.float64)])
    return scores


def plain_products(queries: sp.csr_array, rows: sp.csr_array) -> np.ndarray:
    """(Q, n) dot products, one entry after another: no matrix of 2^31 rows is ever made."""
    return np.array(
        [[sum(q[i] * row[i] for i in q.keys() & row.keys()) for row in _dicts(rows)] for q in _dicts(queries)]
    )


def _dicts(matrix: sp.csr_array) -> list[dict[int, float]]:
    bounds = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    return [dict(zip(matrix.indices[a:b].tolist(), matrix.data[a:b].tolist(), strict=True)) for a, b in bounds]
