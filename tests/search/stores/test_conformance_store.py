"""What every engine does with the passages of a generation: keep, replace, delete, give back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from engine_cases import Open, skip_if_it_cannot
from stored_samples import DIMENSION, LAYOUT, PLAIN, TOKEN_DIMENSION, of_rows, sample

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import Precision
from bessemer.errors import DataError
from bessemer.search.stores.store import Layout, Stored, VectorStore
from bessemer.types import Passage

GENERATION = "generation-b2"
NOBODY = "nobody has this id"


def ids_of(stored: Stored) -> list[str]:
    return [passage.passage_id for passage in stored.passages]


def entries(rows: sp.csr_array) -> list[dict[int, float]]:
    some = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    return [dict(zip(rows.indices[a:b].tolist(), rows.data[a:b].tolist(), strict=True)) for a, b in some]


def assert_holds(store: VectorStore, stored: Stored) -> None:
    ids = ids_of(stored)
    assert store.count() == len(ids) == store.stats()["passages"]
    assert store.passages(ids[::-1]) == list(stored.passages)[::-1]
    pages = list(store.all_passages(7))
    assert sorted(p.passage_id for page in pages for p in page) == sorted(ids)
    assert all(1 <= len(page) <= 7 for page in pages)
    assert store.text_hashes() == dict(zip(ids, stored.text_hashes, strict=True))
    given, found = stored.encoded, store.vectors(ids)
    np.testing.assert_array_equal(found.dense, given.dense)
    assert (found.sparse is None) == (given.sparse is None)
    assert (found.multi_vector is None) == (given.multi_vector is None)
    if given.sparse is not None:
        assert entries(found.sparse) == entries(given.sparse)
    if given.multi_vector is not None:
        assert_same_tokens(store, stored)


def assert_same_tokens(store: VectorStore, stored: Stored) -> None:
    found, given = store.token_vectors(ids_of(stored)), stored.encoded.multi_vector
    for part in ("rows", "offsets", "token_ids"):
        np.testing.assert_array_equal(getattr(found, part), getattr(given, part), part)
    assert found.precision == given.precision
    if given.scales is not None:
        np.testing.assert_array_equal(found.scales, given.scales)


def test_a_life(reopen: Open) -> None:
    engine, stored = reopen(), sample(20)
    store = engine.create(GENERATION, LAYOUT)
    assert store.count() == 0
    assert list(store.all_passages()) == []
    assert store.search_dense(np.ones((2, DIMENSION), dtype=np.float32), 3) == [[], []]
    assert store.search_sparse("bm25", stored.bm25[:1], 3) == [[]]
    assert store.vectors([]).dense.shape == (0, DIMENSION)
    store.upsert(of_rows(stored, []))
    store.upsert(of_rows(stored, range(12)))
    store.upsert(of_rows(stored, range(8, 20)))  # four of them again
    assert_holds(store, stored)

    other = sample(20, seed=1)
    changed = replace(other, text_hashes=["new"] * 20)
    store.upsert(of_rows(changed, [3, 4]))
    kept = [row for row in range(20) if row not in (3, 4, 5, 6)]
    store.delete([ids_of(stored)[5], ids_of(stored)[6], NOBODY])
    store.delete([])
    assert_holds(store, joined(of_rows(stored, kept), of_rows(changed, [3, 4])))

    store.close()
    engine.close()
    engine = reopen()
    assert engine.generations() == [GENERATION]
    store = engine.open(GENERATION)
    assert store.layout == LAYOUT
    assert_holds(store, joined(of_rows(stored, kept), of_rows(changed, [3, 4])))
    store.close()
    engine.close()


def joined(a: Stored, b: Stored) -> Stored:
    from bessemer.search.encoded_texts import join_texts

    bm25 = sp.vstack([a.bm25, b.bm25], format="csr")
    encoded = join_texts([a.encoded, b.encoded])
    return Stored([*a.passages, *b.passages], [*a.text_hashes, *b.text_hashes], encoded, bm25)


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_precisions_of_multi_vectors(reopen: Open, precision: Precision) -> None:
    layout = Layout(DIMENSION, has_sparse=False, token_dimension=TOKEN_DIMENSION, token_precision=precision)
    stored = sample(6, layout)
    store = reopen().create(GENERATION, layout)
    store.upsert(stored)
    assert_holds(store, stored)
    store.close()


def test_other_bm25_weights(reopen: Open) -> None:
    stored = sample(10)
    store = reopen().create(GENERATION, LAYOUT)
    store.upsert(stored)
    ids = ids_of(stored)
    weights = sp.csr_array(([3.0, 2.0], ([0, 1], [9, 9])), shape=(3, 10), dtype=np.float32)  # the third: nothing
    store.rewrite_bm25([ids[7], ids[0], ids[1]], weights)
    query = sp.csr_array(([1.0], ([0], [9])), shape=(1, 10), dtype=np.float32)
    assert store.search_sparse("bm25", query, 10)[0] == [(ids[7], 3.0), (ids[0], 2.0)]
    assert_holds(store, stored)
    everything = sp.csr_array((np.ones(10), np.arange(10), [0, 10]), shape=(1, 10), dtype=np.float32)
    assert {ids[1]} & {key for key, _ in store.search_sparse("bm25", everything, 100)[0]} == set()
    with pytest.raises(KeyError, match=NOBODY):
        store.rewrite_bm25([NOBODY], weights[:1])
    store.close()


def test_what_is_not_there(reopen: Open) -> None:
    store = reopen().create(GENERATION, LAYOUT)
    store.upsert(sample(3))
    for read in (store.passages, store.vectors, store.token_vectors):
        with pytest.raises(KeyError, match=NOBODY):
            read([ids_of(sample(3))[0], NOBODY])
    store.close()


def faulty() -> dict[str, Stored]:
    stored = sample(3, PLAIN)
    dense = stored.encoded.dense

    def with_dense(vectors: np.ndarray) -> Stored:
        return replace(stored, encoded=Encoded(vectors))

    return {
        "NaN": with_dense(np.where(np.arange(3)[:, None] == 1, np.float32("nan"), dense)),
        "infinite": with_dense(np.where(np.arange(3)[:, None] == 1, np.float32("inf"), dense)),
        "float32": with_dense(np.ones((3, DIMENSION + 1), dtype=np.float32)),
        "twice": replace(stored, passages=[stored.passages[0]] * 3),
        "BM25": replace(stored, bm25=stored.bm25 * np.float32("nan")),
        "text hashes": replace(stored, text_hashes=["a"]),
    }


def test_what_no_engine_lets_in(reopen: Open) -> None:
    store = reopen().create(GENERATION, PLAIN)
    for words, stored in faulty().items():
        with pytest.raises(ValueError, match=words):
            store.upsert(stored)
    assert store.count() == 0
    store.close()


def test_whole_numbers_that_an_engine_would_round(reopen: Open, name: str) -> None:
    stored = sample(2, PLAIN)
    long = replace(stored, passages=[stored.passages[0], Passage("p", "d", "t", metadata={"a": [{"b": 2**63}]})])
    store = reopen().create(GENERATION, PLAIN)
    if name == "files":
        store.upsert(long)
        assert store.passages(["p"])[0].metadata == {"a": [{"b": 2**63}]}
    else:
        with pytest.raises(DataError, match="more than 64 bits"):
            store.upsert(long)
        assert store.count() == 0
    store.close()


def test_a_snapshot_opens_by_itself(reopen: Open, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    skip_if_it_cannot(name, "snapshot")
    engine, stored = reopen(), sample(20)
    store = engine.create(GENERATION, LAYOUT)
    store.upsert(stored)
    folder = tmp_path_factory.mktemp("snapshot") / "copy"
    store.snapshot(folder)
    store.delete(ids_of(stored))
    copy = type(engine)(folder).open(GENERATION)
    assert_holds(copy, stored)
    copy.close()
    store.close()
