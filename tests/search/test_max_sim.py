from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multi_vectors import naive_max_sim, random_vectors

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import Precision, TokenVectors
from bessemer.search import max_sim
from bessemer.search.max_sim import MaxSim, MultiVectorRetriever

lengths = st.lists(st.integers(0, 5), min_size=1, max_size=9)


class Fixed:
    """An encoder whose queries were encoded before."""

    similarity = "dot"

    def __init__(self, queries: TokenVectors) -> None:
        self.queries = queries

    def encode_queries(self, texts: object) -> Encoded:
        return Encoded(multi_vector=self.queries)


def vectors(*texts: list[list[float]]) -> TokenVectors:
    rows = np.array([row for text in texts for row in text], dtype=np.float32).reshape(-1, 2)
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return TokenVectors(rows, offsets, np.zeros(len(rows), dtype=np.int32))


def test_by_hand() -> None:
    """Query tokens e1, e2. Passage a = {e1, -e2}: (1 + 0) / 2. b = {(.6, .8)}: (.6 + .8) / 2. c has none: 0."""
    queries = vectors([[1, 0], [0, 1]])
    passages = vectors([[1, 0], [0, -1]], [[0.6, 0.8]], [])
    [hits] = MultiVectorRetriever(Fixed(queries), ["a", "b", "c"], passages).search(["q"], 5)  # type: ignore[arg-type]
    assert hits == [("b", pytest.approx(0.7)), ("a", pytest.approx(0.5)), ("c", 0.0)]


@settings(max_examples=60, deadline=None)
@given(lengths, lengths, st.integers(0, 10), st.integers(1, 12), st.sampled_from([1, 3, 1000]))
def test_equals_four_nested_loops(q: list[int], p: list[int], seed: int, k: int, block: int) -> None:
    queries, passages = random_vectors(q, seed), random_vectors(p, seed + 100)
    expected = naive_max_sim(queries, passages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(max_sim, "QUERY_TOKENS", block)
        patch.setattr(max_sim, "PASSAGE_TOKENS", block)
        search = MaxSim(passages)
        assert search.scores(queries) == pytest.approx(expected, abs=1e-5)
        found = search.top_k(queries, k)
    for length, (rows, scores), row in zip(q, found, expected, strict=True):
        if length == 0:
            assert len(rows) == 0
            continue
        best = np.lexsort((np.arange(len(p)), -row.astype(np.float32)))[:k]
        assert rows.tolist() == best.tolist()
        assert scores == pytest.approx(row[best], abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_bf16", [False, True])
def test_rounded_products_change_no_result(
    is_bf16: bool, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidates of bf16 products, scored again, are the exact search of float32, to the last bit; vectors that
    bf16 holds exactly have rounded products, too."""
    monkeypatch.setattr(max_sim, "has_native_bf16", lambda _: is_bf16)
    rng = np.random.default_rng(5)
    queries = random_vectors(rng.integers(4, 8, 20).tolist(), 1, dimension=32).stored_as(precision)
    passages = random_vectors(rng.integers(0, 30, 400).tolist(), 2, dimension=32).stored_as(precision)
    expected = naive_like(queries, passages)
    for row, (rows, scores) in zip(expected, MaxSim(passages).top_k(queries, 10), strict=True):
        best = np.lexsort((np.arange(len(row)), -row))[:10]
        assert rows.tolist() == best.tolist()
        assert scores.tolist() == row[best].tolist()


def naive_like(queries: TokenVectors, passages: TokenVectors) -> np.ndarray:
    """Text by text in float64, rounded once."""
    scores = np.zeros((len(queries), len(passages)), dtype=np.float32)
    for i in range(len(queries)):
        query = queries.floats(i, i + 1).astype(np.float64)
        for j in range(len(passages)):
            tokens = passages.floats(j, j + 1).astype(np.float64)
            scores[i, j] = (query @ tokens.T).max(axis=1).mean() if len(tokens) else 0
    return scores


def test_ties_go_to_the_larger_ids_and_copies_have_one_score() -> None:
    one = random_vectors([4], 3)
    passages = one.of([0] * 40)
    ids = [f"p{i:02d}" for i in np.random.default_rng(0).permutation(40)]
    [hits] = MultiVectorRetriever(Fixed(random_vectors([3], 4)), ids, passages).search(["q"], 3)  # type: ignore[arg-type]
    assert [passage_id for passage_id, _ in hits] == ["p39", "p38", "p37"]
    assert len({score for _, score in hits}) == 1


def test_reranking_orders_the_hits_of_others() -> None:
    queries, passages = random_vectors([3, 2], 1), random_vectors([4, 2, 0, 5], 2)
    retriever = MultiVectorRetriever(Fixed(queries), list("abcd"), passages)  # type: ignore[arg-type]
    expected = naive_max_sim(queries, passages)
    first, second = retriever.rerank(Encoded(multi_vector=queries), [[("c", 9.0), ("a", 8.0), ("d", 7.0)], []])
    rows = {"a": 0, "c": 2, "d": 3}
    assert [name for name, _ in first] == sorted(rows, key=lambda name: -expected[0, rows[name]])
    assert dict(first) == pytest.approx({name: expected[0, row] for name, row in rows.items()}, abs=1e-6)
    assert second == []
    nothing = random_vectors([0], 3)
    given = [("c", 9.0), ("a", 8.0), ("d", 7.0)]
    assert retriever.rerank(Encoded(multi_vector=nothing), [given]) == [given]  # no token, no opinion


def test_nothing_to_search() -> None:
    queries, none = random_vectors([2]), random_vectors([])
    assert [rows.tolist() for rows, _ in MaxSim(none).top_k(queries, 3)] == [[]]
    assert MaxSim(queries).top_k(none, 3) == []
    assert MaxSim(queries).scores(random_vectors([0])).tolist() == [[0.0]]
    with pytest.raises(ValueError, match="at least 1"):
        MaxSim(queries).top_k(queries, 0)
    with pytest.raises(ValueError, match="2 passage ids"):
        MultiVectorRetriever(Fixed(queries), ["a", "b"], queries)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no multi-vectors"):
        MultiVectorRetriever(Fixed(queries), ["a"], queries).search_encoded(Encoded(), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("precision", "largest"), [("float16", 5e-5), ("bfloat16", 5e-4), ("int8", 2e-3)])
def test_kept_in_fewer_bits_the_order_is_nearly_the_same(precision: str, largest: float) -> None:
    """``largest``: difference of a score to float32, at 64 numbers per vector. Of the top 10, at least 9 stay."""
    queries, passages = random_vectors([12] * 15, 1, dimension=64), random_vectors([40] * 300, 2, dimension=64)
    kept = passages.stored_as(precision)  # type: ignore[arg-type]
    difference = np.abs(MaxSim(kept).scores(queries) - MaxSim(passages).scores(queries)).max()
    assert difference < largest
    found, expected = MaxSim(kept).top_k(queries, 10), MaxSim(passages).top_k(queries, 10)
    for (rows, _), (best, _) in zip(found, expected, strict=True):
        assert len(set(rows.tolist()) & set(best.tolist())) >= 9
