from __future__ import annotations

from pathlib import Path

import pytest
from served import error_of, running

from bessemer.search.index import open_index
from bessemer.search.index_build import build_index
from bessemer.search.stores.engines import open_engine
from bessemer.serving.service import Served
from bessemer.types import Passage
from milvus_server import milvus_server

pytest.importorskip("pymilvus")


def test_a_search_fails_with_the_engine_and_the_service_stays(
    static: Served, tiny_static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bessemer.search.stores.milvus_store.SECONDS", 3.0)
    monkeypatch.setattr("bessemer.search.stores.milvus.SECONDS", 3.0)
    with milvus_server(tmp_path / "data") as (address, server):
        location = f"{address}/Manuals"
        passages = [Passage("p", "d", "w1 w2"), Passage("q", "e", "w3 w4")]
        build_index(open_engine(location), passages, static.encoder, str(tiny_static_model))
        opened = open_index(location, static.encoder)
        with running(Served("tiny", static.encoder, ("dense",), indexes={"manuals": opened})) as client:
            found = client.post("/search", json={"query": "w1"}).json()
            server.kill()
            server.wait()
            gone = client.post("/search", json={"query": "w1"})
            vectors = client.post("/v1/embeddings", json={"input": "w1"})
            health = client.get("/health")
    assert found["hits"][0]["passage_id"] == "p"
    assert (gone.status_code, error_of(gone)["code"]) == (503, "engine")
    assert error_of(gone)["message"] == "the engine that holds the index fails; see the log of the service"
    assert (vectors.status_code, health.status_code) == (200, 200)
