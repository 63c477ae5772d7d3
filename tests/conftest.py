"""Shared fixtures. Real collections come from the folder of BESSEMER_DATA; tests on them are skipped without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

import english_world

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real collections (see docs/development.md)."""
    folder = os.environ.get("BESSEMER_DATA")
    if not folder:
        pytest.skip("BESSEMER_DATA is not set: real collections are not here")
    return Path(folder)


TINY_WORDS = tuple(f"w{i}" for i in range(200))


@pytest.fixture(scope="session")
def tiny_static_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static model on disk, for `load_encoder`: random vectors of 16 numbers for TINY_WORDS, cosine similarity."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(("[UNK]", *TINY_WORDS))}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = torch.randn(len(TINY_WORDS) + 1, 16, generator=torch.Generator().manual_seed(1)).numpy()
    folder = tmp_path_factory.mktemp("tiny_static") / "model"
    modules = [StaticEmbedding(tokenizer, embedding_weights=vectors), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="session")
def english_beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return english_world.write_beir(tmp_path_factory.mktemp("english") / "beir")


@pytest.fixture(scope="session")
def english_documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return english_world.write_documents(tmp_path_factory.mktemp("english") / "documents")


@pytest.fixture(scope="session")
def english_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return english_world.write_static_model(tmp_path_factory.mktemp("english") / "model")
