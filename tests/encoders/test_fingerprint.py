"""A fingerprint is equal exactly when the vectors are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_survives_copying_saving_and_loading(tiny_folder: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    folder = tiny_folder("model", kind=kind)
    encoder = load_encoder(str(folder), device="cpu")
    shutil.copytree(folder, tmp_path / "copy")
    assert load_encoder(str(tmp_path / "copy"), device="cpu", max_length=9).fingerprint == encoder.fingerprint
    for generation in ("one", "two"):
        encoder.save(tmp_path / generation)
        again = load_encoder(str(tmp_path / generation), device="cpu")
        assert again.fingerprint == encoder.fingerprint
        encoder = again


def test_minilm_survives_saving(minilm: DenseEncoder, tmp_path: Path) -> None:
    minilm.save(tmp_path)
    assert load_encoder(str(tmp_path), device="cpu").fingerprint == minilm.fingerprint


def test_static_survives_saving(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    tiny_static.save(tmp_path)
    assert load_encoder(str(tmp_path), device="cpu").fingerprint == tiny_static.fingerprint


def test_survives_a_checkpoint_without_the_unused_pooler(bert_folder: Path) -> None:
    """What a checkpoint lacks is drawn at random at every load; nothing here uses it."""
    first, second = (load_encoder(str(bert_folder), device="cpu") for _ in range(2))
    with torch.no_grad():
        second.model[0].model.pooler.dense.weight.normal_()
    assert first.fingerprint == second.fingerprint


def test_differs_with_all_that_changes_vectors(tiny_folder: Callable[..., Path]) -> None:
    folder = tiny_folder("same-name")
    base = load_encoder(str(folder), device="cpu").fingerprint
    other_weights = load_encoder(str(tiny_folder("same-name", seed=1)), device="cpu").fingerprint

    encoder = load_encoder(str(folder), device="cpu")
    weight = encoder.model[0].model.embeddings.word_embeddings.weight
    with torch.no_grad():
        weight[150, 3] += 1e-3
    one_number = encoder.fingerprint

    model = load_encoder(str(folder), device="cpu").model
    model.prompts["query"] = "query: "
    prompts = DenseEncoder(model, "x").fingerprint

    transformer, *_ = load_encoder(str(folder), device="cpu").model
    pooled = SentenceTransformer(modules=[transformer, Pooling(32, "cls"), Normalize()], device="cpu")
    pooling = DenseEncoder(pooled, "x").fingerprint

    model = load_encoder(str(folder), device="cpu").model
    model.similarity_fn_name = "dot"
    similarity = DenseEncoder(model, "x").fingerprint

    model = load_encoder(str(folder), device="cpu").model
    model[0].tokenizer.add_tokens(["w1w2"])
    tokenizer = DenseEncoder(model, "x").fingerprint

    everything = [base, other_weights, one_number, prompts, pooling, similarity, tokenizer]
    assert len(set(everything)) == len(everything)
    assert all(len(digest) == 64 for digest in everything)


def test_content_key_adds_lengths_and_precision(bert_folder: Path) -> None:
    options = [{}, {"max_length": 20}, {"query_max_length": 20}, {"bf16": True}]
    keys = {load_encoder(str(bert_folder), device="cpu", **{"bf16": False, **option}).content_key for option in options}
    assert len(keys) == 4
