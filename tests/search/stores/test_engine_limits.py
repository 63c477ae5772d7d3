"""What only some engines do: their limits, said in words that help."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stored_samples import DIMENSION, PLAIN, of_rows, sample

from bessemer.errors import ArtifactError, ConfigError, DataError
from bessemer.search.stores.milvus import open_milvus_lite
from bessemer.search.stores.passage_fields import check_same_passages
from bessemer.search.stores.qdrant_edge import QdrantEdgeEngine
from bessemer.types import Passage

HOLD = """
import sys
from bessemer.search.stores.{module} import {opener} as opener
store = opener({place!r}).open("generation-1")
print(store.count(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("module", "opener"), [("qdrant_edge", "QdrantEdgeEngine"), ("milvus", "open_milvus_lite")])
def test_embedded_engines_serve_one_process_at_a_time(module: str, opener: str, tmp_path: Path) -> None:
    opened = {"QdrantEdgeEngine": QdrantEdgeEngine, "open_milvus_lite": open_milvus_lite}[opener]
    engine = opened(tmp_path / "index")
    engine.create("generation-1", PLAIN).upsert(sample(3, PLAIN))
    engine.close()
    code = HOLD.format(module=module, opener=opener, place=str(tmp_path / "index"))
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"3\n"
        with pytest.raises(ConfigError, match=r"(in another process|another process has it)"):
            opened(tmp_path / "index").open("generation-1")
        assert holder.stdin is not None
        holder.stdin.close()
    engine = opened(tmp_path / "index")
    assert engine.open("generation-1").count() == 3
    engine.close()


def test_an_edge_shard_that_is_damaged(tmp_path: Path) -> None:
    engine = QdrantEdgeEngine(tmp_path)
    engine.create("generation-1", PLAIN).upsert(sample(3, PLAIN))
    engine.close()
    for file in (tmp_path / "generation-1").rglob("segment.json"):
        file.write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        engine.open("generation-1")


def test_an_edge_generation_whose_creation_was_killed_is_not_finished(tmp_path: Path) -> None:
    engine = QdrantEdgeEngine(tmp_path)
    engine.create("generation-1", PLAIN)
    engine.close()
    (tmp_path / "generation-1" / "layout.json").unlink()
    assert engine.generations() == ["generation-1"]
    with pytest.raises(ArtifactError, match="no finished index"):
        engine.open("generation-1")


def test_two_users_of_one_milvus_file(tmp_path: Path) -> None:
    """The first to close it does not close it for the other, as when a service opens its index anew."""
    first = open_milvus_lite(tmp_path / "index")
    first.create("generation-1", PLAIN).upsert(sample(3, PLAIN))
    second = open_milvus_lite(tmp_path / "index")
    first.close()
    assert second.open("generation-1").count() == 3
    second.close()


def test_passages_longer_than_milvus_keeps(tmp_path: Path) -> None:
    stored = sample(3, PLAIN)
    long = [replace(passage, text="长" * 22_000) for passage in stored.passages[:2]]
    engine = open_milvus_lite(tmp_path / "index")
    store = engine.create("generation-1", PLAIN)
    with pytest.raises(DataError, match="Milvus keeps 65,535") as error:
        store.upsert(replace(stored, passages=[*long, stored.passages[2]]))
    assert len(error.value.problems) == 2
    assert store.count() == 0
    with pytest.raises(ConfigError, match="16,384 hits at most"):
        store.search_dense(np.ones((1, DIMENSION), dtype=np.float32), 20_000)
    engine.close()


def test_two_passages_with_one_point_id() -> None:
    with pytest.raises(DataError, match="has the point id of 'b'; rename one"):
        check_same_passages({"point": "a"}, {"point": "b"})
    check_same_passages({"point": "a", "other": "c"}, {"point": "a"})


def test_packing_changes_nothing(tmp_path: Path) -> None:
    engine, stored = QdrantEdgeEngine(tmp_path), sample(200, PLAIN)
    store = engine.create("generation-1", PLAIN)
    store.upsert(stored)
    query = stored.encoded.dense[:3]
    before = store.search_dense(query, 50), store.search_sparse("bm25", stored.bm25[:3], 50)
    engine.switch("generation-1")
    assert (store.search_dense(query, 50), store.search_sparse("bm25", stored.bm25[:3], 50)) == before
    store.upsert(of_rows(replace(stored, passages=[Passage(f"n{i}", "d", "t") for i in range(200)]), range(200)))
    assert store.count() == 400
    engine.close()
