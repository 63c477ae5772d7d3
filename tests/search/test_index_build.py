"""Generations, and what a build does to the one that is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hashed_words import HashedWords

from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import ArtifactError, ConfigError
from bessemer.search import index_update, lexicon
from bessemer.search.index import open_index
from bessemer.search.index_build import IndexStats, build_index
from bessemer.search.index_manifest import read_lexicon, read_manifest, rollback
from bessemer.search.stores.engines import open_engine
from bessemer.search.stores.files import FilesEngine
from bessemer.search.stores.filters import parse_where
from bessemer.types import Passage

TEXTS = ("red apple pie", "green apple tart", "blue sky above", "a grey stone wall", "sky and stone", "pie of stone")
PASSAGES = [
    Passage(f"p{i}", f"d{i // 2}", text, metadata={"year": 2020 + i, "tags": ["x"]}) for i, text in enumerate(TEXTS)
]


def found(folder: Path, query: str, salt: str = "", **options: object) -> list[str]:
    hits = open_index(folder, HashedWords(salt)).search(query, **options)  # type: ignore[arg-type]
    return [hit["passage_id"] for hit in hits]


def test_a_change_of_the_rest_is_written_without_the_model(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    encoder = HashedWords()
    changed = [replace(PASSAGES[0], metadata={"year": 1999}, doc_id="other"), *PASSAGES[1:]]
    assert build_index(tmp_path, changed, encoder, "m") == IndexStats(6, 0, 6, 0)
    assert encoder.n_encoded == 0
    assert found(tmp_path, "apple", where=parse_where(["year<2000"])) == ["p0"]
    [hit] = open_index(tmp_path, encoder).search("apple", 1, where=parse_where(["doc_id=other"]))
    assert (hit["doc_id"], hit["metadata"]) == ("other", {"year": 1999})


def test_filters_hold_in_every_lane_and_fill_the_list(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    where = parse_where(["year>=2022"])
    hits = open_index(tmp_path, HashedWords()).search("apple pie", 4, where=where)
    assert {hit["passage_id"] for hit in hits} == {"p2", "p3", "p4", "p5"}
    assert [hit["passage_id"] for hit in hits if "bm25" in hit["lanes"]] == ["p5"]
    assert found(tmp_path, "apple", where=parse_where(["tags=x"])) == []  # lists are kept, not searched by
    assert open_index(tmp_path, HashedWords()).search("apple", 1)[0]["metadata"]["tags"] == ["x"]


@pytest.mark.parametrize("batch", [1, 4, 1024])
def test_texts_that_change_places_are_not_encoded_again(
    tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_update, "BATCH", batch)
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    renamed = [replace(passage, passage_id=f"n{i}") for i, passage in enumerate(PASSAGES)]
    encoder = HashedWords()
    assert build_index(tmp_path, renamed, encoder, "m") == IndexStats(6, 0, 6, 6)
    assert encoder.n_encoded == 0
    rotated = [replace(one, text=other.text) for one, other in zip(renamed, [*renamed[1:], renamed[0]], strict=True)]
    stats = build_index(tmp_path, rotated, encoder, "m")
    assert encoder.n_encoded == stats.n_encoded <= 1  # the one that was overwritten before it was needed
    build_index(tmp_path / "fresh", rotated, HashedWords(), "m")
    for query in ("stone", "red apple", "sky"):
        assert open_index(tmp_path, encoder).search(query) == open_index(tmp_path / "fresh", encoder).search(query)


def test_many_small_changes_equal_one_fresh_build(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(30)]
    texts = {f"p{i}": " ".join(rng.choice(words, 6)) for i in range(20)}
    for step in range(12):
        for i in rng.choice(20, 4, replace=False).tolist():
            texts[f"p{i}"] = " ".join(rng.choice(words, 6))
        texts.pop(f"p{step}", None)
        passages = [Passage(key, "d", text) for key, text in texts.items()]
        build_index(tmp_path / "index", passages, HashedWords(), "m")
    build_index(tmp_path / "fresh", passages, HashedWords(), "m")
    index, fresh = (open_index(tmp_path / name, HashedWords()) for name in ("index", "fresh"))
    for query in ("w1 w2 w3", "w7", "w29 w11"):
        assert index.search(query) == fresh.search(query)


def test_a_moved_mean_length_is_written_to_all(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    longer = [*PASSAGES, Passage("long", "d", "stone " * 40)]
    assert build_index(tmp_path, longer, HashedWords(), "m") == IndexStats(7, 1, 6, 0, 6)
    build_index(tmp_path / "fresh", longer, HashedWords(), "m")
    for query in ("stone", "apple"):
        encoder = HashedWords()
        assert open_index(tmp_path, encoder).search(query) == open_index(tmp_path / "fresh", encoder).search(query)


def test_words_that_are_cut_otherwise_now_are_counted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an update of the segmenter, of Python's Unicode tables or of our own rules."""
    with monkeypatch.context() as before:
        before.setattr(lexicon, "analyze", lambda text: [*text.split(), "a", "grey"])
        before.setattr(lexicon, "analyzer_version", lambda: "rules 0", raising=False)
        build_index(tmp_path / "index", PASSAGES, HashedWords(), "m")
    open_index(tmp_path / "index", HashedWords())
    assert "words are cut otherwise now" in caplog.text
    stats = build_index(tmp_path / "index", PASSAGES[1:], HashedWords(), "m")
    assert stats == IndexStats(5, 0, 5, 1, n_reweighed=5)
    build_index(tmp_path / "fresh", PASSAGES[1:], HashedWords(), "m")
    caplog.clear()
    index, fresh = (open_index(tmp_path / name, HashedWords()) for name in ("index", "fresh"))
    assert not caplog.records
    for query in ("a grey stone", "apple", "sky"):
        assert index.search(query) == fresh.search(query)


def test_another_model_is_built_beside_and_can_be_rolled_back(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, HashedWords("a"), "model-a")
    first = open_index(tmp_path, HashedWords("a"))
    build_index(tmp_path, PASSAGES[:4], HashedWords("b"), "model-b")
    assert first.search("stone")[0]["passage_id"] in {"p3", "p4", "p5"}  # opened before: goes on as it was
    engine = FilesEngine(tmp_path)
    assert len(engine.generations()) == 2
    assert rollback(engine)["model"] == "model-a"
    assert found(tmp_path, "pie of stone", "a")[0] == "p5"
    assert rollback(engine)["model"] == "model-b"
    with pytest.raises(ArtifactError, match="model-b"):
        open_index(tmp_path, HashedWords("a"))
    build_index(tmp_path, PASSAGES, HashedWords("c"), "model-c")  # the oldest is dropped, its lexicon, too
    assert len(engine.generations()) == len(list(tmp_path.glob("lexicon-*"))) == 2
    again = HashedWords("b")
    assert build_index(tmp_path, PASSAGES[:4], again, "model-b").n_encoded == again.n_encoded == 0  # it was still there
    assert rollback(engine)["model"] == "model-c"


def test_nothing_to_roll_back_to(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    with pytest.raises(ConfigError, match="nothing to roll back to"):
        rollback(FilesEngine(tmp_path))
    with pytest.raises(ArtifactError, match="no finished index"):
        rollback(FilesEngine(tmp_path / "none"))


class Stopped(HashedWords):
    """Gives up after some batches."""

    def __init__(self, salt: str, n_batches: int) -> None:
        super().__init__(salt)
        self.left = n_batches

    def encode_passages(self, texts: object) -> object:  # type: ignore[override]
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().encode_passages(texts)  # type: ignore[arg-type]


def test_a_stopped_build_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_update, "BATCH", 2)
    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path, PASSAGES, Stopped("a", 2), "m")
    with pytest.raises(ArtifactError, match="no finished index"):
        open_index(tmp_path)
    assert build_index(tmp_path, PASSAGES, HashedWords("a"), "m") == IndexStats(6, 2, 4, 0)
    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path, PASSAGES, Stopped("b", 1), "m")
    assert found(tmp_path, "green apple tart", "a")[0] == "p1"  # the old model's, all the while
    assert build_index(tmp_path, PASSAGES, HashedWords("b"), "m") == IndexStats(6, 4, 2, 0)
    engine = FilesEngine(tmp_path)
    assert read_lexicon(engine, read_manifest(engine)["generation"]).is_exact
    with pytest.raises(KeyboardInterrupt):  # the one to roll back to, half brought up to date
        build_index(tmp_path, [*PASSAGES, *(Passage(f"n{i}", "d", f"new {i}") for i in range(4))], Stopped("a", 1), "m")
    with pytest.raises(ConfigError, match="when the build was stopped"):
        rollback(engine)


def test_two_writers(tmp_path: Path) -> None:
    with FilesEngine(tmp_path).lock(), pytest.raises(ConfigError, match="another process"):
        build_index(tmp_path, PASSAGES, HashedWords(), "m")


def test_an_open_index_sees_what_was_built_since(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    index = open_index(tmp_path, HashedWords())
    assert index.refreshed() is index
    assert index.headings == ()
    build_index(tmp_path, [*PASSAGES, Passage("new", "d", "a zebra", title="Animals")], HashedWords(), "m")
    assert "new" not in index.passage_ids
    fresh = index.refreshed()
    assert fresh.search("zebra")[0]["passage_id"] == "new"
    assert ("new" in fresh.passage_ids, fresh.headings) == (True, ("Animals",))
    assert "new" not in index.passage_ids  # a search under way is not disturbed
    build_index(tmp_path, PASSAGES, HashedWords("other"), "m")
    with pytest.raises(ArtifactError, match="fingerprint"):
        fresh.refreshed()
    assert fresh.search("zebra")[0]["passage_id"] == "new"  # goes on as it was


def test_an_index_of_the_version_before_is_built_again(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / "generation-1").mkdir()
    (tmp_path / "generation-1" / "vectors.npy").write_bytes(b"old")
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "generation": "generation-1", "model": "m"}))
    with pytest.raises(ArtifactError, match=r"format 1, this version reads 2.*build it again"):
        open_index(tmp_path)
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    assert found(tmp_path, "sky")
    assert not (tmp_path / "generation-1").exists()


def test_engines_have_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no engine 'fils'; known: files"):
        build_index(tmp_path, PASSAGES, HashedWords(), "m", engine="fils")
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    assert open_engine(tmp_path).name == "files"
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"engine": "files"', '"engine": "elsewhere"'))
    with pytest.raises(ConfigError, match="no engine 'elsewhere'"):
        open_index(tmp_path)
    with pytest.raises(ConfigError, match="holds an index of the engine elsewhere, not files"):
        build_index(tmp_path, PASSAGES, HashedWords(), "m")


@pytest.mark.parametrize("fault", ["missing", "cut", "garbage"])
def test_a_damaged_lexicon_is_noticed_and_mended(tmp_path: Path, fault: str) -> None:
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    [path] = tmp_path.glob("lexicon-*")
    path.unlink() if fault == "missing" else path.write_bytes(b"{" if fault == "garbage" else path.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="damaged"):
        open_index(tmp_path, HashedWords())
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    assert found(tmp_path, "sky")


def test_what_the_cache_holds_is_not_encoded_again(tmp_path: Path, tiny_static_model: Path) -> None:
    passages = [Passage(f"p{i}", "d", f"w{i % 200} w{i // 200}") for i in range(2100)]  # more than two batches
    encoder = CachedEncoder(load_encoder(str(tiny_static_model)), tmp_path / "cache")
    encoder.encode_passages([passage.indexed_text for passage in passages])
    before = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert build_index(tmp_path / "index", passages, encoder, "m").n_encoded == 2100
    assert sorted((tmp_path / "cache").rglob("*.safetensors")) == before
