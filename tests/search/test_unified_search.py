"""The ensemble against its formula written out, over random representations of every kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from multi_vectors import naive_max_sim, random_rows, random_vectors

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.unified_settings import LaneWeights
from bessemer.search import unified
from bessemer.search.encoded_texts import join_texts, texts_of
from bessemer.search.ensemble import LaneScores, tune_lane_weights
from bessemer.search.unified import UnifiedRetriever

N, Q = 60, 7
IDS = [f"p{i:02d}" for i in np.random.default_rng(9).permutation(N)]


def encoded(n: int, seed: int) -> Encoded:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((n, 8)).astype(np.float32)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    return Encoded(dense, random_rows(n, 30, seed), random_vectors(rng.integers(0, 6, n).tolist(), seed))


class Fixed:
    """Gives queries that were encoded before, and counts how often it is asked."""

    similarity = "cosine"
    lane_weights = LaneWeights()

    def __init__(self, queries: Encoded) -> None:
        self.queries = queries
        self.n_calls = 0

    def encode_queries(self, texts: Sequence[str], outputs: Sequence[str] = ("dense",)) -> Encoded:
        self.n_calls += 1
        return self.queries


QUERIES, PASSAGES = encoded(Q, 1), encoded(N, 2)


def lane_matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        QUERIES.dense @ PASSAGES.dense.T,
        QUERIES.sparse.toarray() @ PASSAGES.sparse.toarray().T,
        naive_max_sim(QUERIES.multi_vector, PASSAGES.multi_vector),
    )


def retriever(weights: LaneWeights | None = None) -> UnifiedRetriever:
    return UnifiedRetriever(Fixed(QUERIES), IDS, PASSAGES, weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [None, LaneWeights(1, 0, 2), LaneWeights(0, 3, 0.5)])
def test_the_ensemble_is_the_weighted_sum_over_all_passages(weights: LaneWeights | None) -> None:
    dense, sparse, multi = lane_matrices()
    w = weights or LaneWeights()
    expected = w.dense * dense + w.sparse * sparse + w.multi_vector * multi
    for hits, row in zip(retriever(weights).search(["?"] * Q, 10), expected, strict=True):
        best = sorted(zip(row.tolist(), IDS, strict=True), reverse=True)[:10]
        assert [name for name, _ in hits] == [name for _, name in best]
        assert [score for _, score in hits] == pytest.approx([score for score, _ in best], abs=1e-5)


def test_beyond_the_small_the_candidates_are_those_of_dense_and_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every passage among the candidates of the dense lane, nothing changes."""
    expected = retriever().search(["?"] * Q, 5)
    monkeypatch.setattr(unified, "SMALL", 10)
    assert retriever().search(["?"] * Q, 5) == expected
    monkeypatch.setattr(unified, "LANE_DEPTH", 3)
    dense, sparse, _ = lane_matrices()
    for hits, of_dense, of_sparse in zip(retriever().search(["?"] * Q, 3), dense, sparse, strict=True):
        found = {IDS[row] for row in np.argsort(-of_dense)[:3]}
        found |= {IDS[row] for row in np.argsort(-of_sparse, kind="stable")[:3] if of_sparse[row] > 0}
        assert {name for name, _ in hits} <= found


def test_queries_are_encoded_once_for_all_lanes() -> None:
    system = retriever()
    queries = system.encode(["?"] * Q)
    dense, sparse, multi = lane_matrices()
    for lane, matrix in (("dense", dense), ("sparse", sparse), ("multi", multi)):
        [first, *_] = system.lanes[lane](queries, 1)
        assert all(score == pytest.approx(matrix[0].max(), abs=1e-5) for _, score in first)
    system.search_encoded(queries, 3)
    assert system.encoder.n_calls == 1  # type: ignore[attr-defined]


def test_blocks_copies_and_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = retriever().search(["?"] * Q, 4)
    monkeypatch.setattr(unified, "_BLOCK_BYTES", 12 * N * 2)
    assert retriever().search(["?"] * Q, 4) == expected
    assert retriever().search([], 4) == []
    copies = texts_of(PASSAGES, np.zeros(30, dtype=np.int64))
    system = UnifiedRetriever(Fixed(QUERIES), sorted(IDS)[:30], copies)  # type: ignore[arg-type]
    assert all([name for name, _ in hits] == sorted(IDS)[29:27:-1] for hits in system.search(["?"] * Q, 2))
    empty = UnifiedRetriever(Fixed(QUERIES), [], texts_of(PASSAGES, slice(0, 0)))  # type: ignore[arg-type]
    assert empty.search(["?"] * Q, 4) == [[]] * Q
    with pytest.raises(ValueError, match="all three"):
        UnifiedRetriever(Fixed(QUERIES), IDS, Encoded(dense=PASSAGES.dense))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        retriever().search(["?"], 0)


def test_parts_joined_are_the_whole() -> None:
    parts = [texts_of(PASSAGES, slice(0, 20)), texts_of(PASSAGES, slice(20, N))]
    whole = join_texts(parts)
    assert all(kind is not None for kind in (whole.dense, whole.sparse, whole.multi_vector))
    np.testing.assert_array_equal(whole.dense, PASSAGES.dense)
    np.testing.assert_array_equal(whole.sparse.toarray(), PASSAGES.sparse.toarray())
    np.testing.assert_array_equal(whole.multi_vector.rows, PASSAGES.multi_vector.rows)
    np.testing.assert_array_equal(whole.multi_vector.offsets, PASSAGES.multi_vector.offsets)


def lane_scores(*rows: tuple[float, float, float]) -> LaneScores:
    """Passages a, b, ... with (dense, sparse, multi_vector)."""
    columns = np.array(rows, dtype=np.float32).T
    return LaneScores([chr(ord("a") + i) for i in range(len(rows))], *columns)


def test_weights_move_only_where_dev_says_so() -> None:
    """a is relevant, b leads by its sparse score: at 1, 0.3, 1 b wins by 0.3 * 2 - 0.5; from a quarter of 0.3 on a."""
    misled = lane_scores((0.5, 0, 0), (0, 2, 0))
    qrels = {f"q{i}": {"a": 1} for i in range(20)}
    tuning = tune_lane_weights(dict.fromkeys(qrels, misled), qrels)
    assert tuning.weights == LaneWeights(1.0, 0.3 * 0.5, 1.0)  # 0.5 steps nearer than 0.25 or 0
    assert (tuning.dev, tuning.best, tuning.n_queries) == (1.0, 1.0, 20)
    assert tuning.before == pytest.approx(1 / np.log2(3))
    content = lane_scores((0.5, 1, 1), (0, 0, 0))
    assert tune_lane_weights(dict.fromkeys(qrels, content), qrels).weights == LaneWeights()


def test_a_lane_that_misleads_beyond_all_weights_is_left_out() -> None:
    """At a quarter dense still says 25 where the two others say 0.3 x 4 + 4 at most."""
    qrels = {f"q{i}": {"a": 1} for i in range(20)}
    tuning = tune_lane_weights(dict.fromkeys(qrels, lane_scores((0, 1, 1), (100, 0, 0))), qrels)
    assert tuning.weights == LaneWeights(0.0, 0.3, 1.0)
    assert tuning.dev == 1.0


def test_within_one_standard_error_the_default_stays() -> None:
    """One misled query of ten: the mean gains d / 10 and its standard error is d / 10 as well (sd d / sqrt(10))."""
    content, misled = lane_scores((0.5, 0, 0), (0, 0, 0)), lane_scores((0.5, 0, 0), (0, 2, 0))
    qrels = {f"q{i}": {"a": 1} for i in range(10)}
    scores = {query_id: misled if query_id == "q0" else content for query_id in qrels}
    tuning = tune_lane_weights(scores, qrels)
    assert tuning.weights == LaneWeights()
    assert tuning.dev < tuning.best == 1.0


def test_without_dev_queries_the_default_stays() -> None:
    default = LaneWeights(1, 2, 3)
    assert tune_lane_weights({"q": lane_scores((1, 1, 1))}, {"q": {"a": 0}}, default).weights == default
