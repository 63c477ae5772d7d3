"""Indexes that are built anew while they are searched."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from served import running, soon

from bessemer.config import Config
from bessemer.encoders.load import load_encoder
from bessemer.recipes.serve import open_indexes
from bessemer.search.index import Index, open_index
from bessemer.search.index_build import build_index
from bessemer.serving.service import Served
from bessemer.types import Passage

BODY = {"query": "w9", "top_k": 1}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer.serving.refreshing.REFRESH_SECONDS", 0.0)


def build(folder: Path, model: Path, *texts: str) -> None:
    build_index(folder, [Passage(t, t, t) for t in texts], load_encoder(str(model), device="cpu"), str(model))


def test_an_index_that_opens_slowly_holds_nobody_up(
    static: Served, tiny_static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bessemer.serving.refreshing.PATIENCE_SECONDS", 0.05)
    may_open, n_opened, refreshed = threading.Event(), [0], Index.refreshed

    def slow(index: Index) -> Index:
        fresh = refreshed(index)
        if fresh is not index:
            n_opened[0] += 1
            assert may_open.wait(30)
        return fresh

    monkeypatch.setattr(Index, "refreshed", slow)
    for name in ("i", "j"):
        build(tmp_path / name, tiny_static_model, "w1 w2", "w3 w4")
    indexes = {name: open_index(tmp_path / name, static.encoder) for name in ("i", "j")}
    with running(Served("tiny", static.encoder, ("dense",), indexes=indexes), request_seconds=1.0) as client:
        build(tmp_path / "i", tiny_static_model, "w1 w2", "w9 w10")
        for name in ("i", "i", "j", "i"):
            found = client.post("/search", json={**BODY, "index": name})
            assert found.status_code == 200
            assert found.json()["hits"][0]["text"] != "w9 w10"
        may_open.set()
        soon(lambda: client.post("/search", json={**BODY, "index": "i"}).json()["hits"][0]["text"] == "w9 w10")
    assert n_opened == [1]


def test_indexes_of_one_model_that_are_built_by_another(
    tiny_static_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both are taken up, and the new model is loaded once."""
    model = SentenceTransformer(str(tiny_static_model), device="cpu")
    with torch.no_grad():
        model[0].embedding.weight.neg_()  # type: ignore[union-attr, operator]
    model.save(str(tmp_path / "other"))
    folders = [str(tmp_path / name) for name in ("i", "j")]
    for folder in folders:
        build(Path(folder), tiny_static_model, "w1 w2", "w3 w4")
    indexes = open_indexes(Config(device="cpu"), folders)
    encoder = indexes["i"].encoder
    assert indexes["j"].encoder is encoder
    with running(Served("tiny", encoder, ("dense",), indexes=indexes)) as client:  # type: ignore[arg-type]
        for name in ("i", "j"):
            build(tmp_path / name, tmp_path / "other", "w1 w2", "w9 w10")
            found = client.post("/search", json={**BODY, "index": name}).json()["hits"]
            assert found[0]["text"] == "w9 w10"
    assert indexes["i"].encoder is indexes["j"].encoder is not encoder
    told = [json.loads(record.message) for record in caplog.records if record.levelname == "WARNING"]
    assert [line["index"] for line in told] == ["i", "j"]
    assert "/v1/embeddings" in told[0]["warning"]


def test_what_cannot_be_taken_up_is_told(
    static: Served, tiny_static_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path / "i", tiny_static_model, "w9 w10")
    indexes = {"i": open_index(tmp_path / "i", static.encoder)}
    with running(Served("tiny", static.encoder, ("dense",), indexes=indexes)) as client:
        (tmp_path / "i" / "manifest.json").write_text("{")
        assert client.post("/search", json=BODY).json()["hits"][0]["text"] == "w9 w10"
    assert "cannot be refreshed" in caplog.text
    assert "build it again with" in caplog.text
