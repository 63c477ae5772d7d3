"""Both layouts of head files: round trips, what plain libraries make of the folder, and what is refused."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from test_unified_parts import new_heads
from tiny_m3 import write_tiny_m3
from tiny_models import words

from bessemer.encoders.encoder import OUTPUTS
from bessemer.encoders.load import load_encoder
from bessemer.encoders.two_towers import join_towers
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.encoders.unified_settings import LaneWeights, UnifiedSettings
from bessemer.errors import ArtifactError, ConfigError

TEXTS = [words(1, 2, 3), words(4), ""]
SETTINGS = UnifiedSettings(LaneWeights(0.5, 0.25, 2.0), top_weights=7, multi_vector_precision="int8")


@pytest.fixture(scope="session")
def saved_once(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, UnifiedEncoder]:
    model = load_encoder(str(bert_folder), device="cpu", bf16=False).model
    encoder = UnifiedEncoder(model, "tiny", new_heads(), SETTINGS, bf16=False)
    folder = tmp_path_factory.mktemp("saved") / "model"
    encoder.save(folder)
    return folder, encoder


@pytest.fixture
def saved(saved_once: tuple[Path, UnifiedEncoder], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_once[0], tmp_path / "model"))


def load(folder: Path) -> UnifiedEncoder:
    encoder = load_encoder(str(folder), device="cpu", bf16=False)
    assert isinstance(encoder, UnifiedEncoder)
    return encoder


def assert_same(one: UnifiedEncoder, other: UnifiedEncoder) -> None:
    left, right = one.encode_passages(TEXTS, OUTPUTS), other.encode_passages(TEXTS, OUTPUTS)
    np.testing.assert_array_equal(left.dense, right.dense)
    assert left.sparse is not None
    assert right.sparse is not None
    assert (left.sparse != right.sparse).nnz == 0
    assert left.multi_vector is not None
    assert right.multi_vector is not None
    np.testing.assert_array_equal(left.multi_vector.rows, right.multi_vector.rows)


def test_our_layout_comes_back_with_its_settings(saved: Path, saved_once: tuple[Path, UnifiedEncoder]) -> None:
    encoder = load(saved)
    assert encoder.settings == SETTINGS
    assert encoder.fingerprint == saved_once[1].fingerprint
    assert_same(encoder, saved_once[1])


def test_the_layout_of_bge_m3_comes_back(saved: Path, saved_once: tuple[Path, UnifiedEncoder]) -> None:
    for name in ("unified.safetensors", "unified.json"):
        (saved / name).unlink()
    encoder = load(saved)
    assert encoder.settings == UnifiedSettings()  # that layout says nothing of them
    assert encoder.fingerprint == saved_once[1].fingerprint
    assert_same(encoder.with_settings(multi_vector_precision="int8"), saved_once[1])


def test_plain_sentence_transformers_opens_the_dense_part(saved: Path, saved_once: tuple[Path, UnifiedEncoder]) -> None:
    plain = SentenceTransformer(str(saved), device="cpu")
    np.testing.assert_allclose(plain.encode(TEXTS), saved_once[1].encode_passages(TEXTS).dense, atol=1e-5)
    assert "heads" not in dict(plain[0].named_children())
    unknown = [key for key in load_file(saved / "model.safetensors") if "heads" in key]
    assert not unknown


@pytest.mark.parametrize("bare", [False, True])
def test_a_folder_as_baai_publishes_it_pools_cls(tmp_path: Path, bare: bool, caplog: pytest.LogCaptureFixture) -> None:
    write_tiny_m3(tmp_path / "tiny")
    if bare:
        (tmp_path / "tiny" / "modules.json").unlink()
    with caplog.at_level(logging.WARNING):
        encoder = load(tmp_path / "tiny")
    assert ("cls pooling is assumed" in caplog.text) == bare
    assert isinstance(encoder.model[1], Pooling)
    assert encoder.model[1].get_config_dict()["pooling_mode"] == "cls"
    assert encoder.heads.special_ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("unified.json",), "has unified.safetensors but not unified.json"),
        (("unified.safetensors",), "has unified.json but not unified.safetensors"),
        (("unified.json", "unified.safetensors", "sparse_linear.pt"), "has colbert_linear.pt but not sparse_linear.pt"),
    ],
)
def test_half_a_pair_names_the_missing_file(saved: Path, names: tuple[str, ...], missing: str) -> None:
    for name in names:
        (saved / name).unlink()
    with pytest.raises(ArtifactError, match=missing):
        load(saved)


@pytest.mark.parametrize("name", ["unified.safetensors", "unified.json", "sparse_linear.pt", "colbert_linear.pt"])
def test_a_damaged_file_is_named(saved: Path, name: str) -> None:
    if name.endswith(".pt"):
        (saved / "unified.safetensors").unlink()
        (saved / "unified.json").unlink()
    (saved / name).write_bytes((saved / name).read_bytes()[:40])
    with pytest.raises(ArtifactError, match=name):
        load(saved)


def test_heads_of_another_model_are_refused(saved: Path) -> None:
    weights = {name: tensor.contiguous() for name, tensor in new_heads(hidden_size=48).state_dict().items()}
    save_file(weights, saved / "unified.safetensors")
    with pytest.raises(ArtifactError, match=r"unified.safetensors: .*\(1, 48\).* do not fit .* hidden size 32"):
        load(saved)
    (saved / "unified.safetensors").unlink()
    (saved / "unified.json").unlink()
    torch.save({"weight": torch.zeros(2, 32), "bias": torch.zeros(2)}, saved / "sparse_linear.pt")
    with pytest.raises(ArtifactError, match="do not fit"):
        load(saved)
    torch.save([torch.zeros(2)], saved / "sparse_linear.pt")
    with pytest.raises(ArtifactError, match=r"sparse_linear.pt: does not hold"):
        load(saved)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "format 2 is not known"),
        (
            "multi_vector_precision",
            "float8",
            r"unified.json: multi_vector_precision: .*'float32'.*; copy the model again",
        ),
        ("lane_weights", {"dense": 1, "sparse": 1}, r"unified.json: lane_weights.multi_vector: Field required; copy"),
        ("lane_weights", {"dense": 1, "sparse": 1, "multi_vector": 1, "bm25": 1}, "lane_weights.bm25: Extra inputs"),
        ("lane_weights", {"dense": 1, "sparse": float("nan"), "multi_vector": 1}, "lane_weights.sparse: .* finite"),
        ("lane_weights", [1, 0.3, 1], "unified.json: lane_weights: "),
        ("top_weights", -3, r"unified.json: top_weights: .* greater than or equal to 1; copy the model again"),
        ("top_weights", 2.5, "unified.json: top_weights: "),
        ("special_token_ids", None, "unified.json: special_token_ids: "),
        ("special_token_ids", [0, 10**9], "not this model's"),
    ],
)
def test_settings_that_make_no_sense_are_refused(saved: Path, key: str, value: object, message: str) -> None:
    file = saved / "unified.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ArtifactError, match=message):
        load(saved)


def test_special_tokens_belong_to_the_fingerprint(saved: Path, saved_once: tuple[Path, UnifiedEncoder]) -> None:
    """Those that the file leaves out weigh something, be it the same model in all else."""
    file = saved / "unified.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"special_token_ids": []}))
    assert load(saved).fingerprint != saved_once[1].fingerprint


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("code ran",)


def test_a_pickle_that_runs_code_is_not_run(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("unified.safetensors", "unified.json"):
        (saved / name).unlink()
    torch.save({"weight": Evil(), "bias": torch.zeros(1)}, saved / "sparse_linear.pt")
    with pytest.raises(ArtifactError, match=r"sparse_linear.pt: cannot be read"):
        load(saved)
    assert "code ran" not in capsys.readouterr().out


def test_heads_beside_two_towers_say_why_they_are_refused(bert_folder: Path, saved: Path, tmp_path: Path) -> None:
    query = load_encoder(str(bert_folder), device="cpu", bf16=False)
    join_towers(query, query.independent_copy().model).save(tmp_path / "towers")
    for name in ("unified.safetensors", "unified.json"):
        shutil.copy(saved / name, tmp_path / "towers" / name)
    with pytest.raises(ConfigError, match=r"a tower for queries and one for passages .* remove the head files"):
        load(tmp_path / "towers")


def test_heads_beside_a_decoder_say_why_they_are_refused(
    tiny_folder: Callable[..., Path], saved: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder("Qwen3-Embedding-0.6B", kind="qwen3"), tmp_path / "qwen"))
    for name in ("unified.safetensors", "unified.json"):
        shutil.copy(saved / name, folder / name)
    with pytest.raises(ConfigError, match="decoder-only"):
        load(folder)
