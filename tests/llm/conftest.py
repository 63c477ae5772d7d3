"""What the tests of language models share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bessemer.llm.request_cache import RequestCache


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[RequestCache]:
    with RequestCache(tmp_path / "llm" / "replies.sqlite") as cache:
        yield cache


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BESSEMER_LLM_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
