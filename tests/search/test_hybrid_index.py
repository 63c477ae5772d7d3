"""The index on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hashed_words import HashedWords

from bessemer.encoders.encoder import Encoded
from bessemer.errors import ArtifactError, ConfigError, DataError
from bessemer.search.index import open_index
from bessemer.search.index_build import IndexStats, build_index
from bessemer.types import Passage

PASSAGES = [
    Passage("p1", "d1", "How to raise an HTTPException in a path operation.", headings=("Errors", "Raising")),
    Passage("p2", "d1", "Dependencies can have sub-dependencies.", title="Dependencies"),
    Passage("p3", "d2", "长江大桥位于南京市。"),
    Passage("p4", "d3", "Dependencies can have sub-dependencies.", title="Dependencies"),  # a copy stays a passage
]


def test_build_open_and_search(tmp_path: Path) -> None:
    encoder = HashedWords()
    assert build_index(tmp_path / "index", PASSAGES, encoder, "some-model") == IndexStats(4, 3, 0, 0)
    hits = open_index(tmp_path / "index", encoder).search("http exception", top_k=2)
    assert len(hits) == 2
    assert hits[0]["passage_id"] == "p1"
    assert hits[0]["doc_id"] == "d1"
    assert hits[0]["text"] == "Errors > Raising\nHow to raise an HTTPException in a path operation."
    assert {lane: found["rank"] for lane, found in hits[0]["lanes"].items()} == {"dense": 1, "bm25": 1}
    assert hits[0]["score"] == pytest.approx(2 / 61)
    assert "bm25" not in hits[1]["lanes"]  # no word in common: only the dense lane has it
    json.dumps(hits)
    assert open_index(tmp_path / "index", encoder).search("南京", top_k=1)[0]["passage_id"] == "p3"


def test_a_passage_deleted_in_mid_search_is_searched_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = HashedWords()
    build_index(tmp_path / "index", PASSAGES, encoder, "m")
    index = open_index(tmp_path / "index", encoder)
    store = index._store
    search_dense, n_searched = store.search_dense, 0

    def then_deleted(*arguments: Any) -> Any:
        nonlocal n_searched
        n_searched += 1
        found = search_dense(*arguments)
        store.delete(["p1"])
        return found

    monkeypatch.setattr(store, "search_dense", then_deleted)
    assert index.search("http exception")[0]["passage_id"] != "p1"
    assert n_searched == 2


def test_withheld_spans_are_served(tmp_path: Path) -> None:
    passage = Passage("p", "d", "Hidden question. Visible rest.", withheld=((0, 16),))
    assert "Hidden" not in passage.indexed_text
    build_index(tmp_path, [passage], HashedWords(), "m")
    index = open_index(tmp_path, HashedWords())
    assert index.search("hidden question")[0]["text"] == "Hidden question. Visible rest."
    assert "bm25" in index.search("hidden")[0]["lanes"]


def test_building_again_encodes_only_what_changed(tmp_path: Path) -> None:
    encoder = HashedWords()
    build_index(tmp_path, PASSAGES, encoder, "m")
    changed = [*PASSAGES[:2], Passage("p3", "d2", "A new text."), Passage("p5", "d5", "One more.")]
    encoder.n_encoded = 0
    assert build_index(tmp_path, changed, encoder, "m") == IndexStats(4, 2, 2, 1, 2)
    assert encoder.n_encoded == 2
    fresh = tmp_path / "fresh"
    build_index(tmp_path / "again", changed, HashedWords(), "m")
    for query in ("new text", "dependencies", "one more"):
        assert open_index(tmp_path, encoder).search(query) == open_index(tmp_path / "again", encoder).search(query)
    assert not fresh.exists()
    assert len(list(tmp_path.glob("generation-*"))) == 1


def test_another_model_or_dtype_encodes_anew(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    assert build_index(tmp_path, PASSAGES, HashedWords("other"), "m").n_encoded == 3
    half = HashedWords("other")
    half.bf16 = True  # type: ignore[attr-defined]
    assert build_index(tmp_path, PASSAGES, half, "m").n_encoded == 3


def test_another_model_is_refused_by_both_names(tmp_path: Path) -> None:
    ours, other = HashedWords(), HashedWords("other")
    build_index(tmp_path, PASSAGES, ours, "our-model")
    with pytest.raises(ArtifactError) as error:
        open_index(tmp_path, other)
    for part in (
        "our-model",
        ours.fingerprint_of("passage")[:16],
        other.fingerprint_of("passage")[:16],
        "build the index again",
    ):
        assert part in str(error.value)


def test_a_model_beside_the_index_is_named_relatively(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "elsewhere" / "model").mkdir(parents=True)
    for model, expected in (("model", "../model"), ("elsewhere/model", str(tmp_path / "elsewhere/model"))):
        build_index(tmp_path / "index", PASSAGES, HashedWords(), tmp_path / model)
        assert json.loads((tmp_path / "index/manifest.json").read_text())["model"] == expected
    build_index(tmp_path / "index", PASSAGES, HashedWords(), "minilm")
    assert json.loads((tmp_path / "index/manifest.json").read_text())["model"] == "minilm"


class Dying(HashedWords):
    def encode_passages(self, texts: object) -> Encoded:
        raise KeyboardInterrupt


def test_a_killed_build_leaves_the_old_index(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path, PASSAGES, Dying(), "m")
    with pytest.raises(ArtifactError, match="no finished index"):
        open_index(tmp_path)
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    (tmp_path / "generation-dead").mkdir()  # what a killed build leaves
    (tmp_path / "generation-dead" / "vectors.npy").write_bytes(b"half")
    assert open_index(tmp_path, HashedWords()).search("dependencies")
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    assert not (tmp_path / "generation-dead").exists()


def test_a_full_disk_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    before = open_index(tmp_path, HashedWords())
    found = before.search("dependencies")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", full)
        with pytest.raises(ConfigError, match="No space left on device"):
            build_index(tmp_path, [*PASSAGES, Passage("p5", "d5", "More dependencies.")], HashedWords(), "m")
        with pytest.raises(ConfigError, match="No space left on device"):  # a second generation
            build_index(tmp_path, PASSAGES, HashedWords("other"), "m")
    assert before.search("dependencies") == found
    assert [hit["passage_id"] for hit in open_index(tmp_path, HashedWords()).search("dependencies")] == [
        hit["passage_id"] for hit in found
    ]
    assert build_index(tmp_path, PASSAGES[:1], HashedWords(), "m") == IndexStats(1, 0, 1, 3, 1)


@pytest.mark.parametrize("name", ["vectors.npy", "passages.jsonl", "bm25.npz", "rows.json"])
@pytest.mark.parametrize("fault", ["missing", "cut", "garbage"])
def test_damage_is_noticed(tmp_path: Path, name: str, fault: str) -> None:
    build_index(tmp_path, PASSAGES, HashedWords(), "m")
    [path] = tmp_path.glob(f"generation-*/*/{name}")
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-5] if fault == "cut" else b"\x07" * len(content))
    with pytest.raises(ArtifactError, match=r"damaged|no finished index"):
        open_index(tmp_path, HashedWords())
    build_index(tmp_path, PASSAGES, HashedWords(), "m")  # mended by building again
    assert open_index(tmp_path, HashedWords()).search("dependencies")


def test_a_manifest_cannot_point_outside(tmp_path: Path) -> None:
    build_index(tmp_path / "index", PASSAGES, HashedWords(), "m")
    manifest = json.loads((tmp_path / "index/manifest.json").read_text())
    shutil.copytree(tmp_path / "index" / manifest["generation"], tmp_path / "generation-x")
    manifest["generation"] = "generation-x/../../generation-x"
    (tmp_path / "index/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="damaged"):
        open_index(tmp_path / "index", HashedWords())


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no passages"):
        build_index(tmp_path, [], HashedWords(), "m")
    with pytest.raises(DataError, match="'p1' stands twice") as error:
        build_index(tmp_path, [*PASSAGES, PASSAGES[0], PASSAGES[1]], HashedWords(), "m")
    assert len(error.value.problems) == 2
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="no index"):
        build_index(tmp_path, PASSAGES, HashedWords(), "m")
    assert (tmp_path / "mine.txt").read_text() == "keep me"
    with pytest.raises(ConfigError, match="is a file"):
        build_index(tmp_path / "mine.txt", PASSAGES, HashedWords(), "m")
    build_index(tmp_path / "index", PASSAGES, HashedWords(), "m")
    index = open_index(tmp_path / "index", HashedWords())
    with pytest.raises(ConfigError, match="empty"):
        index.search("  ")
    with pytest.raises(ConfigError, match="top_k"):
        index.search("x", 0)


@pytest.mark.real_data
def test_the_model_of_the_index_is_loaded_and_checked(data_dir: Path, tmp_path: Path) -> None:
    from bessemer.encoders.load import load_encoder

    model = tmp_path / "out" / "model"
    shutil.copytree(data_dir / "models" / "potion-base-4m", model)
    build_index(tmp_path / "out" / "index", PASSAGES, load_encoder(str(model)), model)
    (tmp_path / "out").rename(tmp_path / "moved")  # model and index move together
    index = open_index(tmp_path / "moved" / "index")
    assert index.search("raising an exception")[0]["passage_id"] == "p1"
    settings = tmp_path / "moved" / "model" / "config_sentence_transformers.json"
    changed = json.loads(settings.read_text()) | {"prompts": {"query": "other: ", "document": ""}}
    settings.write_text(json.dumps(changed))
    with pytest.raises(ArtifactError, match="fingerprint"):
        open_index(tmp_path / "moved" / "index").search("raising an exception")
