from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from engine_cases import ENGINES, Open, place
from stored_samples import LAYOUT, sample

from bessemer.search.stores.store import Stored, VectorStore
from milvus_server import milvus_server

GENERATION = "generation-a1"


@pytest.fixture(scope="session")
def milvus_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Starts the server for the first who asks."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(milvus_server(tmp_path_factory.mktemp("milvus") / "data"))[0])


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def reopen(name: str, tmp_path_factory: pytest.TempPathFactory, milvus_address: Callable[[], str]) -> Iterator[Open]:
    with place(name, tmp_path_factory.mktemp("engine"), milvus_address) as opened:
        yield opened


@pytest.fixture(scope="module", params=ENGINES)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, milvus_address: Callable[[], str]
) -> Iterator[tuple[str, VectorStore, Stored]]:
    """(engine, a store with the sample of 60, that sample); for reading only."""
    with place(request.param, tmp_path_factory.mktemp("engine"), milvus_address) as opened:
        engine, stored = opened(), sample(60)
        store = engine.create(GENERATION, LAYOUT)
        store.upsert(stored)
        yield request.param, store, stored
        store.close()
        engine.close()
