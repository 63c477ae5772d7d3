"""`configs/gpl.yaml` from documents to a model: a scripted language model asks, a tiny cross-encoder scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

import english_world
from bessemer.config import load_config
from bessemer.recipes.adapt import adapt
from scripted_llm import obliging, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights over the words of the small world."""
    folder = tmp_path_factory.mktemp("gpl")
    english_world.write_bert_model(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), num_labels=1, initializer_range=1.0, max_position_embeddings=128, **sizes
    )
    BertForSequenceClassification(config).save_pretrained(folder / "cross-encoder")
    tokenizer.save_pretrained(folder / "cross-encoder")
    return folder / "cross-encoder"


def test_gpl_from_documents_to_a_model(
    english_documents: Path, english_model: Path, cross_encoder: Path, tmp_path: Path
) -> None:
    changes: Mapping[str, Any] = {
        "source": str(english_documents), "out": str(tmp_path / "out"), "workspace": str(tmp_path / "workspace"),
        "model": str(english_model), "teacher.model": str(cross_encoder), "device": "cpu",
        "finetune.max_steps": 4, "finetune.learning_rate": 0.05, "finetune.interpolation": False,
        "evaluation.general": "none", "evaluation.bootstrap_samples": 200, "llm.model": "scripted",
    }  # fmt: skip
    with serving(obliging) as server:
        config = load_config(ROOT / "configs" / "gpl.yaml", {**changes, "llm.url": server.url})
        report = adapt(config)
        asked = [request["messages"][0]["content"] for request in server.requests]
    assert any("answers, 3 at most" in system for system in asked)
    assert "duplicates" in {stage["stage"] for stage in report["data"]["funnel"]}  # a filter that GPL leaves on

    settings = report["settings"]
    assert (settings["finetune"]["loss"], settings["negatives"]["strategy"]) == ("margin_mse", "mixed")
    n_train = report["data"]["queries"]["train"]
    assert 50 * n_train < report["teacher"]["pairs"] <= 52 * n_train  # 50 candidates, and a positive or two
    assert report["training"]["steps"] == 4
    trained = SentenceTransformer(str(tmp_path / "out" / "model"), device="cpu").encode(["random numbers"])
    base = SentenceTransformer(str(english_model), device="cpu").encode(["random numbers"])
    assert abs(trained - base).max() > 1e-3
