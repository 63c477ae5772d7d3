"""Folders whose files lack some of the model's weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tiny_models import words

from bessemer.encoders.load import load_encoder
from bessemer.encoders.sparse import load_sparse
from bessemer.errors import ConfigError
from bessemer.search.rerank import CrossEncoderReranker
from lane_models import write_sparse


def without(folder: Path, copy: Path, lacks: Callable[[str], bool]) -> Path:
    """A copy of ``folder`` whose weights lack the tensors with such names."""
    shutil.copytree(folder, copy)
    (file,) = copy.rglob("model.safetensors")
    save_file({name: t for name, t in load_file(file).items() if not lacks(name)}, file, metadata={"format": "pt"})
    return copy


def test_a_layer_that_is_not_there(bert_folder: Path, tmp_path: Path) -> None:
    folder = without(bert_folder, tmp_path / "copy", lambda name: "layer.1.output" in name)
    with pytest.raises(ConfigError, match=r"4 of its 39 tensors .*layer\.1\.output\.LayerNorm\.bias and 3 more.* anew"):
        load_encoder(str(folder), device="cpu")


def test_a_single_tensor(bert_folder: Path, tmp_path: Path) -> None:
    folder = without(bert_folder, tmp_path / "copy", lambda name: name == "encoder.layer.0.attention.self.key.weight")
    with pytest.raises(ConfigError, match=r"1 of its 39 tensors are not in its files \(.*self\.key\.weight\) and"):
        load_encoder(str(folder), device="cpu")


def test_weights_under_other_names(bert_folder: Path, tmp_path: Path) -> None:
    """As training in several processes saves them that forgets to unwrap the model."""
    folder = shutil.copytree(bert_folder, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    save_file({f"module.{name}": t for name, t in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"37 of its 39 tensors are not in its files \(embeddings\."):
        load_encoder(str(folder), device="cpu")


def test_a_pooler_that_nothing_runs_may_be_missing(bert_folder: Path, tmp_path: Path) -> None:
    folder = without(bert_folder, tmp_path / "copy", lambda name: "pooler" in name)
    whole, lean = (load_encoder(str(f), device="cpu", bf16=False) for f in (bert_folder, folder))
    np.testing.assert_array_equal(*(encoder.encode_queries([words(1, 2)]).dense for encoder in (whole, lean)))


def test_splade_without_its_output_over_the_vocabulary(tmp_path: Path) -> None:
    folder = write_sparse(tmp_path / "splade")
    lean = without(folder, tmp_path / "copy", lambda name: name.startswith("cls."))
    with pytest.raises(ConfigError, match=r"\(cls\.predictions\..* random numbers"):
        load_sparse(str(lean), device="cpu")


def test_a_model_of_embeddings_is_no_reranker(bert_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"\(classifier\.bias and 1 more\).*; a model of embeddings cannot score"):
        CrossEncoderReranker(str(bert_folder), "cpu")
