"""Shared fixtures. Real collections come from the folder that BESSEMER_DATA names; tests on them are skipped without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real collections (see docs/development.md)."""
    folder = os.environ.get("BESSEMER_DATA")
    if not folder:
        pytest.skip("BESSEMER_DATA is not set: real collections are not here")
    return Path(folder)
