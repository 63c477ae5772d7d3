"""A small cross-encoder with random weights, saved and loaded like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from bessemer.errors import ConfigError
from bessemer.search.rerank import CrossEncoderReranker

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "blast", "furnace", "iron", "steel", "wine", "stain"]
PAIRS = [("blast furnace", "iron steel"), ("wine", "stain wine stain"), ("iron", "blast furnace iron")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("cross-encoder"), n_labels=1)


def save(folder: Path, n_labels: int, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "initializer_range": 1.0,
    }
    BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), num_labels=n_labels, **sizes)).save_pretrained(
        folder
    )
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


def test_scores_are_the_library_s_own_one_per_pair(folder: Path) -> None:
    expected = CrossEncoder(str(folder), device="cpu").predict(PAIRS)
    reranker = CrossEncoderReranker(str(folder), "cpu")
    np.testing.assert_allclose(reranker(PAIRS), expected, rtol=1e-6)
    assert len(set(reranker(PAIRS))) == 3
    assert reranker([]).shape == (0,)


def test_logits_are_what_the_activation_is_given(folder: Path) -> None:
    reranker = CrossEncoderReranker(str(folder), "cpu")
    np.testing.assert_allclose(1 / (1 + np.exp(-reranker.logits(PAIRS))), reranker(PAIRS), rtol=1e-5)
    assert reranker.logits([]).shape == (0,)


def test_pairs_longer_than_the_model_reads_are_told(tmp_path: Path) -> None:
    folder = save(tmp_path / "short", n_labels=1)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}, model_max_length=8).save_pretrained(folder)
    reranker = CrossEncoderReranker(str(folder), "cpu")
    assert reranker.are_cut([("iron", "steel " * 4), ("iron", "steel " * 5)]) == [False, True]  # [CLS] and two [SEP]
    assert reranker.are_cut([]) == []


def test_the_fingerprint_tells_weights_apart_and_not_paths(folder: Path, tmp_path: Path) -> None:
    again = save(tmp_path / "same", n_labels=1)
    other = save(tmp_path / "other", n_labels=1, seed=1)
    assert CrossEncoderReranker(str(again)).fingerprint == CrossEncoderReranker(str(folder)).fingerprint
    assert CrossEncoderReranker(str(other)).fingerprint != CrossEncoderReranker(str(folder)).fingerprint


def test_what_is_no_reranker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 3 outputs; a reranker has one"):
        CrossEncoderReranker(str(save(tmp_path / "three", n_labels=3)))
    with pytest.raises(ConfigError, match="no cross-encoder to be had"):
        CrossEncoderReranker(str(tmp_path / "nothing"))
