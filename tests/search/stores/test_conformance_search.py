"""Every engine ranks as a plain computation does: the same passages, the same scores, the same order of ties."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from engine_cases import Open, skip_if_it_cannot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_samples import (
    DIMENSION,
    LAYOUT,
    METADATA,
    TOKEN_DIMENSION,
    of_rows,
    plain_hits,
    plain_max_sim,
    plain_products,
    sample,
    sparse_sample,
    token_sample,
)

from bessemer.errors import ConfigError
from bessemer.search.stores.store import Condition, Filter, Stored, VectorStore
from bessemer.types import Hits, Passage

Filled = tuple[str, VectorStore, Stored]
QUERIES = np.random.default_rng(5).standard_normal((3, DIMENSION)).astype(np.float32)
SPARSE_QUERIES = sp.vstack(
    [sparse_sample(3, np.random.default_rng(6)), sp.csr_array((1, 1 << 31), dtype=np.float32)], format="csr"
)


def assert_same(found: Hits, expected: Hits) -> None:
    assert [key for key, _ in found] == [key for key, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("top_k", [1, 2, 5, 7, 1000])
def test_dense(filled: Filled, top_k: int) -> None:
    _, store, stored = filled
    scores = QUERIES.astype(np.float64) @ stored.encoded.dense.astype(np.float64).T
    found = store.search_dense(QUERIES, top_k)
    assert len(found) == 3
    for hits, row in zip(found, scores, strict=True):
        assert_same(hits, plain_hits(stored, row, top_k))


@pytest.mark.parametrize("top_k", [1, 4, 1000])
@pytest.mark.parametrize("lane", ["bm25", "sparse"])
def test_sparse(filled: Filled, lane: str, top_k: int) -> None:
    _, store, stored = filled
    rows = stored.bm25 if lane == "bm25" else stored.encoded.sparse
    scores = plain_products(SPARSE_QUERIES, rows)
    found = store.search_sparse(lane, SPARSE_QUERIES, top_k)
    assert [len(hits) for hits in found[-1:]] == [0]  # the query without entries
    for hits, row in zip(found, scores, strict=True):
        assert_same(hits, plain_hits(stored, row, top_k, positive=True))


def test_no_score_of_zero_or_less_is_a_hit_of_a_sparse_lane(filled: Filled) -> None:
    store = filled[1]
    assert store.search_sparse("bm25", SPARSE_QUERIES * 0, 10) == [[], [], [], []]


def test_multi_vector(filled: Filled) -> None:
    name, store, stored = filled
    queries = token_sample(4, "float32", np.random.default_rng(8))  # the third has no tokens
    if name.startswith("milvus"):
        with pytest.raises(ConfigError, match="does not search them"):
            store.search_multi_vector(queries, 5)
        return
    for query, hits in enumerate(store.search_multi_vector(queries, 1000)):
        tokens = queries.floats(query, query + 1)
        scores = plain_max_sim(tokens, stored.encoded.multi_vector) if len(tokens) else np.zeros(0)
        assert_same(hits, plain_hits(stored, scores, 1000) if len(tokens) else [])


def test_of_ties_at_the_cut_the_larger_ids_stay(reopen: Open) -> None:
    store = reopen().create("generation-1", LAYOUT)
    stored = of_rows(sample(2), [0] * 90)
    passages = [Passage(f"same {row:02}", "d", "t") for row in range(90)]
    store.upsert(Stored(passages, stored.text_hashes, stored.encoded, stored.bm25))
    hits = store.search_dense(stored.encoded.dense[:1], 3)[0]
    assert [key for key, _ in hits] == ["same 89", "same 88", "same 87"]
    store.close()


def test_filters_in_every_lane(filled: Filled) -> None:
    _, store, stored = filled
    where = [Condition("year", ">=", (2020,)), Condition("doc_id", "!=", ("doc 1",))]
    rows = [row for row, passage in enumerate(stored.passages) if plain(passage, where)]
    kept = of_rows(stored, rows)
    assert 0 < len(rows) < 20
    scores = QUERIES[0].astype(np.float64) @ kept.encoded.dense.astype(np.float64).T
    assert_same(store.search_dense(QUERIES[:1], 50, where)[0], plain_hits(kept, scores, 50))
    sparse = plain_products(SPARSE_QUERIES[:1], kept.bm25)[0]
    found = store.search_sparse("bm25", SPARSE_QUERIES[:1], 50, where)[0]
    assert_same(found, plain_hits(kept, sparse, 50, positive=True))


def test_one_is_not_true(filled: Filled) -> None:
    """Python has them equal; a store that keeps what a filter let through must not."""
    _, store, stored = filled
    for value in (1, True, 1.0, 0, False):
        where = [Condition("open", "=", (value,))]
        expected = {passage.passage_id for passage in stored.passages if plain(passage, where)}
        assert {key for key, _ in store.search_dense(QUERIES[:1], 100, where)[0]} == expected


VALUES = st.sampled_from([1, 1.0, "1", True, "true", "zh", "中文", 2020, "2020", 2019.5, -3, 'x" or true', "", "doc 2"])
CONDITIONS = st.builds(
    Condition,
    st.sampled_from(["lang", "year", "open", "doc_id", "a.b[0]", "", "nobody has it", '"] or ["x']),
    st.sampled_from(["=", "!=", ">=", "<=", ">", "<"]),
    st.lists(VALUES, min_size=1, max_size=3).map(tuple),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(where=st.lists(CONDITIONS, min_size=1, max_size=3))
def test_filters_mean_what_they_say(filled: Filled, where: Filter) -> None:
    _, store, stored = filled
    expected = {passage.passage_id for passage in stored.passages if plain(passage, where)}
    assert store.count(where) == len(expected)
    assert {key for key, _ in store.search_dense(QUERIES[:1], 100, where)[0]} == expected


def plain(passage: Passage, where: Filter) -> bool:
    """The meaning of `where`, written out."""
    for one in where:
        found = passage.doc_id if one.field == "doc_id" else passage.metadata.get(one.field)
        same = [value for value in one.values if kind(value) == kind(found) != "other"]
        met = {
            "=": any(found == value for value in same),
            "!=": all(found != value for value in same),
            ">=": any(found >= value for value in same),
            "<=": any(found <= value for value in same),
            ">": any(found > value for value in same),
            "<": any(found < value for value in same),
        }
        if not met[one.operator]:
            return False
    return True


def kind(value: object) -> str:
    return {bool: "truth", int: "number", float: "number", str: "text"}.get(type(value), "other")


def test_the_sample_has_all_kinds_of_metadata() -> None:
    assert {type(value) for one in METADATA for value in one.values()} == {
        str,
        int,
        float,
        bool,
        list,
        dict,
        type(None),
    }
    assert TOKEN_DIMENSION != DIMENSION


def test_two_at_once(filled: Filled) -> None:
    name, store, _ = filled
    skip_if_it_cannot(name, "threads")
    expected = [store.search_dense(QUERIES[row : row + 1], 10) for row in range(3)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: store.search_dense(QUERIES[row % 3 :][:1], 10), range(24)))
    assert found == [expected[row % 3] for row in range(24)]


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_is_positive(filled: Filled, top_k: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        filled[1].search_dense(QUERIES, top_k)
