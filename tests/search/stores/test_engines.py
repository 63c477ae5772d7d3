from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stored_samples import PLAIN, sample

from bessemer.errors import ConfigError
from bessemer.search.stores.engines import ENGINES, open_engine


@pytest.mark.parametrize("name", ["files", "qdrant-edge", "milvus"])
def test_engines_of_a_folder(name: str, tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "index", name)
    assert engine.name == name
    engine.create("generation-1", PLAIN).upsert(sample(2, PLAIN))
    engine.write_fact("manifest", b'{"engine": "%s"}' % name.encode())
    engine.close()
    again = open_engine(str(tmp_path / "index"))
    assert again.name == name
    np.testing.assert_array_equal(again.open("generation-1").count(), 2)
    again.close()


def test_an_engine_of_an_address(milvus_address: Callable[[], str]) -> None:
    location = f"{milvus_address()}/ByAddress"
    for name in (None, "milvus"):
        engine = open_engine(location, name)
        assert (engine.name, engine.location) == ("milvus", location)
        engine.close()


@pytest.mark.parametrize(
    ("location", "name", "words"),
    [
        ("folder", "faiss", "no engine 'faiss'; known: files, qdrant-edge, qdrant, milvus"),
        ("redis://host/a", None, "no engine 'redis'; known"),
        ("milvus://host/a", "files", "no address of the engine 'files'"),
        ("files://host/a", None, "no address of the engine 'files'"),
        ("folder", "qdrant", "write qdrant://HOST:PORT/NAME"),
    ],
)
def test_what_is_no_engine(location: str, name: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_engine(location, name)


def test_all_are_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "engines.md").read_text()
    assert all(f"`{name}`" in page for name in ENGINES)
