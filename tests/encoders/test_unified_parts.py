"""Heads, sparse rows, pair scores and explanations on numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.explanation import SharedToken, TokenMatch, explained
from bessemer.encoders.pair_scores import score_pairs
from bessemer.encoders.precision import lowest_cosines
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.encoders.unified_heads import UnifiedHeads
from bessemer.encoders.unified_outputs import sparse_rows
from bessemer.encoders.unified_settings import LaneWeights


def new_heads(hidden_size: int = 32, dimension: int = 16) -> UnifiedHeads:
    """For the tiny BERT, whose special ids are 0 to 3."""
    torch.manual_seed(1)
    heads = UnifiedHeads(hidden_size, dimension, [0, 1, 2, 3])
    torch.nn.init.constant_(heads.sparse.bias, 0.5)
    return heads


def test_heads_by_hand_with_padding_on_either_side() -> None:
    heads = UnifiedHeads(2, 2, [0, 1])
    with torch.no_grad():
        heads.sparse.weight.copy_(torch.tensor([[1.0, -1.0]]))
        heads.sparse.bias.fill_(0.5)
        heads.multi_vector.weight.copy_(torch.eye(2))
        heads.multi_vector.bias.zero_()
    states = torch.tensor([[3.0, 4.0], [6.0, 8.0], [2.0, 1.0], [5.0, 0.0]])
    hidden = torch.stack([states, states])
    ids, mask = torch.tensor([[1, 7, 7, 0], [0, 1, 7, 7]]), torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    weights, vectors = heads(hidden, ids, mask)
    assert weights.tolist() == [[0, 0, 1.5, 0], [0, 0, 1.5, 5.5]]  # relu(6 - 8 + .5) = 0
    assert heads.token_mask(ids, mask).tolist() == [[False, True, True, False], [False, False, True, True]]
    unit = 5**-0.5
    torch.testing.assert_close(vectors[0], torch.tensor([[0, 0], [0.6, 0.8], [2 * unit, unit], [0, 0]]))
    torch.testing.assert_close(vectors[1], torch.tensor([[0, 0], [0, 0], [2 * unit, unit], [1, 0]]))


def test_sparse_rows_take_the_largest_weight_and_the_strongest_tokens() -> None:
    weights = np.array([[0.5, 2.0, 1.0, 0.5], [0, 0, 0, 0], [1.0, 1.0, 1.0, 0]], dtype=np.float32)
    ids = np.array([[4, 4, 9, 2], [4, 4, 4, 4], [8, 3, 5, 0]])
    rows, n_pruned = sparse_rows(weights, ids, 10, 256)
    assert rows.toarray()[[0, 0, 0, 2, 2, 2], [2, 4, 9, 3, 5, 8]].tolist() == [0.5, 2, 1, 1, 1, 1]
    assert (rows.nnz, n_pruned, rows.dtype) == (6, 0, np.float32)
    assert rows.has_sorted_indices
    cut, n_pruned = sparse_rows(weights, ids, 10, 2)
    assert n_pruned == 2
    assert cut.indices.tolist() == [4, 9, 3, 5]  # of equal weights the lower ids
    assert cut.indptr.tolist() == [0, 2, 2, 4]


def encoded(weights: list[list[float]], tokens: list[list[list[float]]], ids: list[int]) -> Encoded:
    offsets = np.cumsum([0, *map(len, tokens)])
    rows = np.array([vector for text in tokens for vector in text], dtype=np.float32).reshape(-1, 2)
    vectors = TokenVectors(rows, offsets, np.array(ids, dtype=np.int32))
    dense = np.array([[1, 0]] * len(tokens), dtype=np.float32)
    return Encoded(dense, sp.csr_array(np.array(weights, dtype=np.float32)), vectors)


QUERIES = encoded([[0, 2, 1, 0], [0, 0, 0, 0]], [[[1, 0], [0, 1]], []], [1, 2])
PASSAGES = encoded([[1, 3, 0.5, 0], [0, 0, 0, 4]], [[[-1, 0], [0.6, 0.8]], [[-1, 0]]], [0, 1, 3])


def test_pair_scores_by_hand() -> None:
    rows, columns = np.array([0, 0, 1]), np.array([0, 1, 0])
    scores = score_pairs(QUERIES, PASSAGES, rows, columns, LaneWeights(1, 0.1, 10))
    assert scores.dense is not None
    assert scores.sparse is not None
    assert scores.dense.tolist() == [1, 1, 1]
    assert scores.sparse.tolist() == [6.5, 0, 0]
    assert scores.multi_vector == pytest.approx([0.7, -0.5, 0])  # (0.6 + 0.8) / 2; (-1 + 0) / 2; no token
    assert scores.ensemble == pytest.approx([1 + 0.65 + 7, 1 - 5, 1])


def test_lanes_that_one_side_lacks_are_left_out() -> None:
    scores = score_pairs(Encoded(sparse=QUERIES.sparse), PASSAGES, np.array([0]), np.array([0]), LaneWeights())
    assert (scores.dense, scores.multi_vector) == (None, None)
    assert scores.ensemble == pytest.approx([0.3 * 6.5])


def test_many_pairs_in_blocks_are_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(2, size=3000), rng.integers(2, size=3000)
    scores = score_pairs(QUERIES, PASSAGES, rows, columns, LaneWeights())
    table = [[6.5, 0], [0, 0]]
    assert scores.sparse is not None
    assert scores.sparse.tolist() == [table[row][column] for row, column in zip(rows, columns, strict=True)]


def test_explanation_by_hand() -> None:
    found = explained(QUERIES, PASSAGES, LaneWeights(), lambda ids: [f"t{i}" for i in ids])
    assert found.shared == (SharedToken("t1", 2, 3, 6), SharedToken("t2", 1, 0.5, 0.5))
    assert found.sparse == sum(token.contribution for token in found.shared)
    assert found.matches == (
        TokenMatch("t1", 0, "t1", 1, pytest.approx(0.6)),
        TokenMatch("t2", 1, "t1", 1, pytest.approx(0.8)),
    )
    assert found.multi_vector == pytest.approx(0.7)
    assert found.ensemble == pytest.approx(1 + 0.3 * 6.5 + 0.7)


def test_agreement_with_what_is_no_number_is_none() -> None:
    """The second of two texts has NaN in one of its token vectors; the first is as it was."""
    rows, ids = np.eye(4, dtype=np.float32), np.arange(4, dtype=np.int32)
    broken = rows.copy()
    broken[3, 0] = np.nan
    texts = [Encoded(multi_vector=TokenVectors(each, np.array([0, 2, 4]), ids)) for each in (rows, broken)]
    assert lowest_cosines(texts[0], texts[0]) == {"multi_vector": pytest.approx(1.0)}
    assert np.isnan(lowest_cosines(*texts)["multi_vector"])
