"""What every engine does beside the passages: facts, generations, the lock; and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from engine_cases import Open
from stored_samples import LAYOUT, PLAIN, sample

from bessemer.errors import ArtifactError, ConfigError
from bessemer.search.stores.milvus import open_milvus
from milvus_server import milvus_server


def test_facts(reopen: Open) -> None:
    engine = reopen()
    with engine.lock():
        assert engine.read_fact("manifest") is None
        large = np.random.default_rng(0).bytes(5 << 20)
        for content in (b"first", b"", large, b"\xff second"):
            engine.write_fact("manifest", content)
            assert engine.read_fact("manifest") == (content or None)
        engine.write_fact("lexicon", large)
    engine.close()
    engine = reopen()
    assert engine.read_fact("lexicon") == large
    assert engine.read_fact("manifest") == b"\xff second"
    engine.close()


def test_generations(reopen: Open) -> None:
    engine = reopen()
    assert engine.generations() == []
    first = engine.create("generation-a_1", PLAIN)
    first.upsert(sample(4, PLAIN))
    engine.switch("generation-a_1")
    second = engine.create("generation-b", LAYOUT)
    second.upsert(sample(6))
    assert engine.generations() == ["generation-a_1", "generation-b"]
    engine.switch("generation-b")
    engine.switch("generation-b")
    assert (first.count(), second.count()) == (4, 6)
    first.close()
    engine.drop("generation-a_1")
    engine.drop("generation-a_1")
    assert engine.generations() == ["generation-b"]
    with pytest.raises(ArtifactError, match="generation-a_1 is not there"):
        engine.open("generation-a_1")
    assert engine.open("generation-b").count() == 6
    engine.create("generation-b", PLAIN).close()  # anew
    assert engine.open("generation-b").count() == 0
    engine.close()


def test_names_that_are_no_generation(reopen: Open) -> None:
    engine = reopen()
    for generation in ("../other", "", "a/b", 'x" or 1'):
        with pytest.raises(ArtifactError, match="damaged"):
            engine.open(generation)
    engine.close()


def test_a_second_writer_is_told_who_writes(reopen: Open, name: str) -> None:
    engine = reopen()
    other = engine if name in ("qdrant", "milvus") else reopen()  # local engines that one process opens once
    with engine.lock(), pytest.raises(ConfigError, match=str(os.getpid())), other.lock():
        pass
    with other.lock():
        pass
    engine.close()


WRITER = """
import json, sys
sys.path.insert(0, {tests!r})
from engine_cases import {opener} as opener
from stored_samples import PLAIN, of_rows, sample
engine = opener({place!r})
store = engine.create("generation-1", PLAIN)
stored = sample(2000, PLAIN)
deleted = []
for start in range(0, 2000, 20):
    store.upsert(of_rows(stored, range(start, start + 20)))
    if start % 60 == 40:
        deleted.append(stored.passages[start].passage_id)
        store.delete(deleted[-1:])
    print(json.dumps([start + 20, deleted]), flush=True)
"""


def acknowledged_before_a_kill(code: str) -> tuple[int, list[str]]:
    """Runs a writer, kills it when it has acknowledged some batches; (passages, deleted ids) of the last line."""
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(6)]
    time.sleep(0.05)
    writer.send_signal(signal.SIGKILL)
    lines += writer.stdout.read().splitlines()
    assert writer.wait() == -signal.SIGKILL
    upserted, deleted = json.loads([line for line in lines if line.strip().endswith("]")][-1])
    return upserted, deleted


OPENERS = {"files": "FilesEngine", "qdrant-edge": "QdrantEdgeEngine", "milvus": "open_milvus_lite"}


@pytest.mark.parametrize("name", OPENERS)
def test_what_was_acknowledged_is_there_after_a_kill(name: str, tmp_path: Path) -> None:
    code = WRITER.format(tests=str(Path(__file__).parent), opener=OPENERS[name], place=str(tmp_path / "index"))
    upserted, deleted = acknowledged_before_a_kill(code)
    import engine_cases

    store = getattr(engine_cases, OPENERS[name])(tmp_path / "index").open("generation-1")
    assert_all_there(store, upserted, deleted)
    store.close()


def assert_all_there(store, upserted: int, deleted: list[str]) -> None:  # type: ignore[no-untyped-def]
    stored = sample(2000, PLAIN)
    kept = [p for p in stored.passages[:upserted] if p.passage_id not in deleted]
    hashes = store.text_hashes()
    assert {p.passage_id for p in kept} <= hashes.keys()
    assert not set(deleted) & hashes.keys()
    assert store.passages([p.passage_id for p in kept]) == kept
    rows = {p.passage_id: row for row, p in enumerate(stored.passages)}
    dense = store.vectors(list(rows.keys() & hashes.keys())).dense  # the batch under way: whole passages or none
    np.testing.assert_array_equal(dense, stored.encoded.dense[[rows[key] for key in rows.keys() & hashes.keys()]])


def test_a_milvus_server_that_is_killed_loses_nothing_and_is_an_error_meanwhile(tmp_path: Path) -> None:
    from bessemer.errors import ServiceError

    stored = sample(60, PLAIN)
    with milvus_server(tmp_path / "data") as (address, server):
        engine = open_milvus(f"{address}/Index")
        store = engine.create("generation-1", PLAIN)
        store.upsert(stored)
        server.kill()
        server.wait()
        with pytest.raises(ServiceError, match="Milvus failed"):
            store.count()
        engine.close()
    with milvus_server(tmp_path / "data") as (address, server):
        engine = open_milvus(f"{address}/Index")
        assert_all_there(engine.open("generation-1"), 60, [])
        engine.close()
