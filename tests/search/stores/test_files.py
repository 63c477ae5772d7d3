"""The exact engine: what it finds, what is on its disk after every write, and what it makes of damage."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from stored import DENSE, DIMENSION, UNIFIED, VOCABULARY, sparse_rows, stored, terms, token_vectors, unit

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.errors import ArtifactError, ConfigError
from bessemer.search.stores.files import FilesEngine
from bessemer.search.stores.files_store import MERGED, FilesStore
from bessemer.search.stores.filters import matches
from bessemer.search.stores.store import Condition, Layout, Stored
from bessemer.types import Hits, Passage

Known = dict[str, tuple[Passage, Encoded, sp.csr_array]]


@pytest.fixture
def engine(tmp_path: Path) -> FilesEngine:
    return FilesEngine(tmp_path / "index")


def add(known: Known, batch: Stored) -> None:
    for i, passage in enumerate(batch.passages):
        tokens = batch.encoded.multi_vector
        parts = Encoded(
            batch.encoded.dense[[i]] if batch.encoded.dense is not None else None,
            batch.encoded.sparse[[i]] if batch.encoded.sparse is not None else None,
            tokens.of([i]) if tokens is not None else None,
        )
        known[passage.passage_id] = (passage, parts, batch.bm25[[i]])


def ranked(scores: dict[str, float], top_k: int, positive: bool = False) -> Hits:
    hits = [(key, score) for key, score in scores.items() if score > 0 or not positive]
    return sorted(hits, key=lambda hit: (hit[1], hit[0]), reverse=True)[:top_k]


def product(one: sp.csr_array, other: sp.csr_array) -> float:
    weights = dict(zip(other.indices.tolist(), other.data.tolist(), strict=True))
    return sum(weights.get(term, 0.0) * value for term, value in zip(one.indices.tolist(), one.data, strict=True))


def max_sim(query: TokenVectors, passage: TokenVectors) -> float:
    products = query.floats(0, 1).astype(np.float64) @ passage.floats(0, 1).astype(np.float64).T
    return float(products.max(axis=1).mean())


def check_equal(store: FilesStore, known: Known, layout: Layout, seed: int) -> None:
    """Every search by a plain loop over all that should be there."""
    rng = np.random.default_rng(seed)
    dense, bm25, sparse = unit(rng, 1), terms(rng, 1), sparse_rows(rng, 1, VOCABULARY)
    tokens = token_vectors(rng, 1)
    assert store.count() == len(known)
    assert store.text_hashes() == {key: f"hash {passage.text}" for key, (passage, _, _) in known.items()}
    assert {p.passage_id: p for batch in store.all_passages(7) for p in batch} == {k: v[0] for k, v in known.items()}
    for where in ((), (Condition("year", ">=", (2022,)),), (Condition("source", "=", ("b",)),)):
        kept = {key: parts for key, (passage, *parts) in known.items() if matches(passage, where)}
        assert store.count(where) == len(kept)
        by_dense = {key: float(parts[0].dense[0] @ dense[0]) for key, parts in kept.items()}
        by_terms = {key: product(parts[1], bm25) for key, parts in kept.items()}
        found = [
            (store.search_dense(dense, 5, where), by_dense, False),
            (store.search_sparse("bm25", bm25, 5, where), by_terms, True),
        ]
        if layout.has_sparse:
            by_hand = {k: product(v[0].sparse, sparse) for k, v in kept.items()}
            found.append((store.search_sparse("sparse", sparse, 5, where), by_hand, True))
        if layout.token_dimension:
            by_hand = {k: max_sim(tokens, v[0].multi_vector) for k, v in kept.items()}
            found.append((store.search_multi_vector(tokens, 5, where), by_hand, False))
        for [hits], scores, positive in found:
            expected = ranked(scores, 5, positive)
            assert [key for key, _ in hits] == [key for key, _ in expected]
            assert [score for _, score in hits] == pytest.approx([score for _, score in expected], abs=1e-6)


@pytest.mark.parametrize("layout", [DENSE, UNIFIED])
def test_any_order_of_writes_gives_what_is_there(engine: FilesEngine, layout: Layout) -> None:
    rng = random.Random(3)
    store, known = engine.create("g", layout), {}
    for step in range(40):
        kind = rng.choice(["upsert", "upsert", "delete", "rewrite", "open"])
        names = [f"p{number}" for number in rng.sample(range(30), rng.randint(1, 8))]
        if kind == "upsert":
            batch = stored(names, step, layout)
            store.upsert(batch)
            add(known, batch)
        elif kind == "delete":
            store.delete(names)
            for name in names:
                known.pop(name, None)
        elif kind == "rewrite":
            there = [name for name in names if name in known]
            weights = terms(np.random.default_rng(step), len(there))
            store.rewrite_bm25(there, weights)
            for place, name in enumerate(there):
                known[name] = (*known[name][:2], weights[[place]])
        else:
            store = engine.open("g")
        if step % 4 == 3:
            check_equal(store, known, layout, step)
            check_equal(engine.open("g"), known, layout, step)
    names = rng.sample(sorted(known), min(9, len(known)))
    assert store.passages(names) == [known[name][0] for name in names]
    vectors = store.vectors(names)
    np.testing.assert_array_equal(vectors.dense, np.concatenate([known[name][1].dense for name in names]))
    if layout.token_dimension:
        tokens = store.token_vectors(names)
        for place, name in enumerate(names):
            np.testing.assert_array_equal(tokens.of([place]).rows, known[name][1].multi_vector.rows)
        np.testing.assert_array_equal(
            vectors.sparse.toarray(), np.concatenate([known[name][1].sparse.toarray() for name in names])
        )


def test_segments_are_merged_and_each_passage_is_written_few_times(engine: FilesEngine) -> None:
    store = engine.create("g", DENSE)
    for number in range(MERGED**2 + 3):
        store.upsert(stored([f"p{number}"], number))
    assert store.stats()["segments"] == 1 + 3
    assert store.stats()["passages"] == MERGED**2 + 3
    folders = [path for path in (engine.folder / "g").iterdir() if path.is_dir()]
    assert len(folders) == 4  # those merged away are gone from the disk
    store.delete([f"p{number}" for number in range(MERGED**2 // 2)])
    assert store.stats()["dead"] == 0  # half dead: written anew
    store.delete([f"p{number}" for number in range(MERGED**2 + 3)])
    assert (store.stats()["segments"], store.stats()["bytes"]) == (0, 0)
    assert store.search_dense(unit(np.random.default_rng(0), 2), 3) == [[], []]
    assert store.vectors([]).dense.shape == (0, DIMENSION)


def test_who_opened_before_a_write_keeps_what_was_there(engine: FilesEngine) -> None:
    writer = engine.create("g", UNIFIED)
    known: Known = {}
    for number in range(MERGED - 1):
        batch = stored([f"p{number}"], number, UNIFIED)
        writer.upsert(batch)
        add(known, batch)
    reader = engine.open("g")
    for number in range(MERGED):
        writer.upsert(stored([f"p{number}"], 100 + number, UNIFIED))  # merges, and removes the files of before
    writer.rewrite_bm25(["p0"], terms(np.random.default_rng(0), 1))
    check_equal(reader, known, UNIFIED, 1)


def test_what_a_killed_write_left_is_removed_by_the_next_writer(engine: FilesEngine) -> None:
    with engine.lock():
        store = engine.create("generation-1", DENSE)
        store.upsert(stored(["a"], 0))
    before = sorted(engine.folder.rglob("*"))
    [segment] = (engine.folder / "generation-1").glob("segment-*")
    (engine.folder / "generation-1" / "segment-2").mkdir()
    (engine.folder / "generation-1" / "segment-2" / "vectors.npy").write_bytes(b"half")
    (engine.folder / "generation-1" / "segments.json.new").write_bytes(b"{")
    (segment / "bm25-9.npz").write_bytes(b"half")
    assert engine.open("generation-1").count() == 1
    with engine.lock():
        assert sorted(engine.folder.rglob("*")) == before
        store = engine.open("generation-1")
        store.upsert(stored(["b"], 1))
    assert engine.open("generation-1").count() == 2


def test_a_failed_write_changes_nothing(engine: FilesEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = engine.create("g", DENSE)
    store.upsert(stored(["a"], 0))
    before = sorted(engine.folder.rglob("*"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("save", "savez"):
        with monkeypatch.context() as patched:
            patched.setattr(np, name, full)
            with pytest.raises(ConfigError, match="No space left on device"):
                store.upsert(stored(["a", "b"], 1))
            if name == "savez":
                with pytest.raises(ConfigError, match="unchanged"):
                    store.rewrite_bm25(["a"], terms(np.random.default_rng(0), 1))
        assert sorted(engine.folder.rglob("*")) == before
        assert store.passages(["a"])[0].text == engine.open("g").passages(["a"])[0].text == "text a 0"
    store.upsert(stored(["a", "b"], 1))
    assert engine.open("g").count() == 2


@pytest.mark.parametrize("fault", ["missing", "cut", "garbage", "one bit"])
@pytest.mark.parametrize(
    "name", ["vectors.npy", "passages.jsonl", "rows.json", "bm25.npz", "sparse.npz", "multi_vector.npz"]
)
def test_damage_is_noticed_at_open(engine: FilesEngine, name: str, fault: str) -> None:
    engine.create("g", UNIFIED).upsert(stored(["a", "b"], 0, UNIFIED))
    [path] = engine.folder.glob(f"g/*/{name}")
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    changed = {"missing": b"", "cut": content[:-5], "garbage": b"\x07" * len(content), "one bit": content}[fault]
    path.unlink() if fault == "missing" else path.write_bytes(changed)
    with pytest.raises(ArtifactError, match="damaged"):
        engine.open("g")


def test_files_that_do_not_fit_together(engine: FilesEngine) -> None:
    for n, ids in ((1, ["a"]), (2, ["a", "b"])):
        engine.create(f"g{n}", UNIFIED).upsert(stored(ids, 0, UNIFIED))
    for name in ("vectors.npy", "passages.jsonl", "bm25.npz", "sparse.npz", "multi_vector.npz"):
        engine.create("g", UNIFIED).upsert(stored(["a", "b"], 0, UNIFIED))
        segments = json.loads((engine.folder / "g/segments.json").read_text())
        other = json.loads((engine.folder / "g1/segments.json").read_text())
        (engine.folder / "g/segment-1" / name).write_bytes((engine.folder / "g1/segment-1" / name).read_bytes())
        segments["segments"][0]["files"][name] = other["segments"][0]["files"][name]
        (engine.folder / "g/segments.json").write_text(json.dumps(segments))
        with pytest.raises(ArtifactError, match="damaged"):
            engine.open("g")


def test_names_cannot_point_outside(engine: FilesEngine) -> None:
    engine.create("g", DENSE).upsert(stored(["a"], 0))
    for name in ("../g", "g/../g", "", ".lock", "g\0"):
        with pytest.raises(ArtifactError, match="damaged"):
            engine.open(name)
    path = engine.folder / "g/segments.json"
    path.write_text(path.read_text().replace("segment-1", "../g/segment-1"))
    with pytest.raises(ArtifactError, match="no name of a segment"):
        engine.open("g")
    with pytest.raises(ArtifactError, match="no finished index"):
        engine.open("h")


def test_one_writer_at_a_time(engine: FilesEngine) -> None:
    with engine.lock(), pytest.raises(ConfigError, match=r"another process \(pid \d+\) is building this index"):
        FilesEngine(engine.folder).lock().__enter__()
    with engine.lock():
        pass


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="no index"):
        FilesEngine(tmp_path).lock().__enter__()
    with pytest.raises(ConfigError, match="is a file"):
        FilesEngine(tmp_path / "mine.txt").lock().__enter__()


def test_facts_generations_and_snapshots(engine: FilesEngine, tmp_path: Path) -> None:
    assert (engine.generations(), engine.read_fact("manifest")) == ([], None)
    engine.write_fact("manifest", b"one")
    engine.write_fact("manifest", b"two")
    assert engine.read_fact("manifest") == b"two"
    engine.create("g1", DENSE).upsert(stored(["a"], 0))
    engine.create("g2", DENSE)
    assert engine.generations() == ["g1", "g2"]
    engine.open("g1").snapshot(tmp_path / "copy")
    engine.drop("g1")
    engine.drop("g1")
    assert engine.generations() == ["g2"]
    assert FilesEngine(tmp_path / "copy").open("g1").passages(["a"])[0].text == "text a 0"
    with pytest.raises(ConfigError, match="is there already"):
        engine.open("g2").snapshot(tmp_path / "copy")


def test_what_no_store_takes(engine: FilesEngine) -> None:
    store, batch = engine.create("g", DENSE), stored(["a", "b"], 0)
    assert batch.encoded.dense is not None
    broken = batch.encoded.dense.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        store.upsert(replace(batch, encoded=Encoded(broken)))
    assert store.count() == 0
    for name in ("a", "b"):
        with pytest.raises(KeyError):
            store.passages([name])
    with pytest.raises(ConfigError, match="no multi-vectors"):
        store.search_multi_vector(token_vectors(np.random.default_rng(0), 1), 1)
