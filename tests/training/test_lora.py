"""Adapters: what trains, what is measured while they train, and the plain model that is left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_world
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from torch import nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import ArtifactError, ConfigError
from bessemer.training.arguments import training_arguments
from bessemer.training.batches import TrainingData
from bessemer.training.finetune import Selection, Tuned, finetune
from bessemer.training.lora import lora, merged
from bessemer.types import HardNegatives

TEXTS = [passage.text for passage in tiny_world.passages()]
LINEAR = ("query", "key", "value", "dense")


def config(**settings: object) -> FinetuneConfig:
    given = {"lora_rank": 4, "learning_rate": 0.02, "per_device_train_batch_size": 8, "max_steps": 6, "eval_steps": 2}
    return FinetuneConfig(**{**given, **settings})


def fit(encoder: DenseEncoder, folder: Path, selection: Selection | None = None, **settings: object) -> Tuned:
    data = [TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives())]
    return finetune(data, encoder, selection, config(**settings), 42, folder)


def fill(encoder: DenseEncoder) -> None:
    """Adapters begin as zero: give them something to say."""
    torch.manual_seed(1)
    for name, parameter in encoder.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)


def trained(encoder: DenseEncoder) -> dict[str, nn.Parameter]:
    return {name: p for name, p in encoder.model.named_parameters() if p.requires_grad}


def test_only_adapters_train_and_their_number_by_hand(tiny_bert: DenseEncoder) -> None:
    """16 wide, 32 within the MLP, one layer: query, key, value and output take r (16 + 16) each, the two layers of the
    MLP r (16 + 32) each. The pooler has none."""
    with lora(tiny_bert, config(lora_rank=4), seed=1):
        assert sum(p.numel() for p in trained(tiny_bert).values()) == 4 * (4 * 32 + 2 * 48)
        assert all(".lora_A." in name or ".lora_B." in name for name in trained(tiny_bert))


def test_modules_after_the_transformer_are_frozen_too(tiny_bert: DenseEncoder) -> None:
    tiny_bert.model.append(nn.Linear(16, 16))
    with lora(tiny_bert, config(), seed=1):
        assert all(".lora_" in name for name in trained(tiny_bert))
    assert len(trained(tiny_bert)) == len(list(tiny_bert.model.parameters()))


def test_they_begin_as_the_base_model_and_their_draw_is_the_seed_s(tiny_bert: DenseEncoder) -> None:
    before, seen = tiny_bert.encode(TEXTS, "passage"), []
    for seed in (1, 1, 2):
        torch.rand(3)  # whatever was drawn before
        with lora(tiny_bert, config(), seed):
            assert np.array_equal(tiny_bert.encode(TEXTS, "passage"), before)
            seen.append(torch.cat([p.detach().flatten() for p in trained(tiny_bert).values()]))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("alpha", [None, 2])
def test_the_merged_model_is_the_adapted_one(tiny_bert: DenseEncoder, alpha: int | None) -> None:
    before = tiny_bert.encode(TEXTS, "passage")
    kinds = [type(module) for module in tiny_bert.model.modules()]
    with lora(tiny_bert, config(lora_alpha=alpha), seed=1):
        fill(tiny_bert)
        own = tiny_bert.copy_weights()
        adapted = tiny_bert.encode(TEXTS, "passage")
        with merged(tiny_bert):
            assert [type(module) for module in tiny_bert.model.modules()] == kinds
            assert np.abs(tiny_bert.encode(TEXTS, "passage") - adapted).max() < 1e-5
        again = tiny_bert.copy_weights()
        assert again.keys() == own.keys()
        assert all(torch.equal(own[name], weight) for name, weight in again.items())
    assert np.abs(tiny_bert.encode(TEXTS, "passage") - adapted).max() < 1e-5
    assert np.abs(adapted - before).max() > 1e-2


def test_the_product_counts_alpha_over_rank_times(tiny_bert: DenseEncoder) -> None:
    name = "0.model.encoder.layer.0.attention.self.query"
    before = tiny_bert.copy_weights()[f"{name}.weight"]
    with lora(tiny_bert, config(lora_rank=4, lora_alpha=6), seed=1):
        fill(tiny_bert)
        weights = tiny_bert.copy_weights()
    product = weights[f"{name}.lora_B.default.weight"] @ weights[f"{name}.lora_A.default.weight"]
    torch.testing.assert_close(tiny_bert.copy_weights()[f"{name}.weight"], before + 6 / 4 * product)


def test_the_bf16_copy_follows_the_merged_weights(tiny_bert_model: Path) -> None:
    encoder = load_encoder(str(tiny_bert_model), device="cpu", bf16=True)
    before = encoder.encode(TEXTS, "passage")
    with lora(encoder, config(), seed=1):
        fill(encoder)
        with merged(encoder):
            in_bf16 = encoder.encode(TEXTS, "passage")
            assert encoder.bf16
            encoder.bf16 = False
            in_fp32 = encoder.encode(TEXTS, "passage")
    assert 0 < np.abs(in_bf16 - in_fp32).max() < 0.02
    assert np.abs(in_bf16 - before).max() > 0.05


def test_nothing_is_left_of_them_also_after_an_error(tiny_bert: DenseEncoder) -> None:
    transformer = tiny_bert.model[0].model
    keys, attributes, fingerprint = set(tiny_bert.copy_weights()), set(vars(transformer)), tiny_bert.fingerprint

    def fails() -> None:
        with lora(tiny_bert, config(), seed=1), merged(tiny_bert):
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert set(tiny_bert.copy_weights()) == keys
    assert set(vars(transformer)) == attributes
    assert tiny_bert.fingerprint == fingerprint  # they had not been trained
    assert all(parameter.requires_grad for parameter in tiny_bert.model.parameters())


def test_a_run_leaves_a_plain_model_and_small_checkpoints(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    own = tiny_bert.copy_weights()
    selection = Selection(tiny_world.dev_pool(), None, 1.0)
    tuned = fit(tiny_bert, tmp_path, selection, interpolation=False)
    assert tuned.report.loss_curve[-1]["loss"] < tuned.report.loss_curve[0]["loss"]
    restored = tiny_bert.copy_weights()
    assert all(torch.equal(own[name], restored[name]) for name in own)

    after = load_encoder(str(tuned.model), device="cpu", bf16=False).copy_weights()
    assert after.keys() == own.keys()
    changed = {name for name in own if not torch.equal(own[name], after[name])}
    assert changed == {n for n in own if n.split(".")[-2] in LINEAR and n.endswith("weight") and "pooler" not in n}
    plain = SentenceTransformer(str(tuned.model), device="cpu")
    ours = load_encoder(str(tuned.model), device="cpu", bf16=False)
    assert np.abs(plain.encode_document(TEXTS) - ours.encode(TEXTS, "passage")).max() < 1e-5
    assert not [path for path in tuned.model.rglob("*") if "adapter" in path.name]

    # what dev said of the best step is what the saved model gives
    assert tiny_world.dev_pool().scores(ours).mean() == pytest.approx(
        max(point["nDCG@10"] for point in tuned.report.dev_curve)
    )
    for file in (tmp_path / "checkpoints").glob("checkpoint-*/model.safetensors"):
        assert all(".lora_" in name for name in load_file(file))


def test_weights_are_mixed_with_the_base_s(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    pool = tiny_world.dev_pool()
    tuned = fit(tiny_bert, tmp_path, Selection(pool, None, 1.0))
    assert tuned.report.interpolation is not None
    chosen = {c.alpha: c.dev for c in tuned.report.interpolation.candidates}[tuned.report.interpolation.alpha]
    assert pool.scores(load_encoder(str(tuned.model), device="cpu", bf16=False)).mean() == pytest.approx(chosen)
    assert tuned.report.interpolation.base.dev == pytest.approx(pool.scores(tiny_bert).mean())


def test_negatives_are_mined_with_the_merged_weights(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    seen = []

    def miner(encoder: DenseEncoder) -> list[HardNegatives]:
        seen.append(encoder.copy_weights())
        return list(tiny_world.negatives())

    own = tiny_bert.copy_weights()
    data = TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives(), miner)
    finetune([data], tiny_bert, None, config(refresh_steps=3), 42, tmp_path)
    assert [weights.keys() == own.keys() for weights in seen] == [True]
    name = "0.model.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(seen[0][name], own[name])


@pytest.mark.parametrize("settings", [{"refresh_steps": 2}, {"frozen_passages": True}])
def test_all_that_a_run_encodes_is_encoded_by_a_plain_model(
    tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    """A bf16 copy of peft's layers would lack the activations that are fused into linear ones."""
    plain, calls = DenseEncoder.encode, []

    def watching(self: DenseEncoder, *arguments: Any, **named: Any) -> Any:
        calls.append([name for name, _ in self.model.named_modules() if "lora" in name or "base_layer" in name])
        return plain(self, *arguments, **named)

    def miner(encoder: DenseEncoder) -> list[HardNegatives]:
        encoder.encode(TEXTS, "passage")
        return list(tiny_world.negatives())

    monkeypatch.setattr(DenseEncoder, "encode", watching)
    data = TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives(), miner)
    finetune([data], tiny_bert, Selection(tiny_world.dev_pool(), None, 1.0), config(**settings), 42, tmp_path)
    assert len(calls) > 4
    assert not any(calls)


def test_a_checkpoint_of_another_rank_is_refused(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    fit(tiny_bert, tmp_path)
    with pytest.raises(ArtifactError, match="checkpoints of another model"):
        fit(tiny_bert, tmp_path, lora_rank=0, max_steps=8)


def test_the_learning_rate_is_higher(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    found = training_arguments(FinetuneConfig(lora_rank=8), 100, tmp_path, tiny_bert, seed=1, measure=None)
    assert found.learning_rate == 5e-4


def test_static_models_have_nothing_to_adapt(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--lora-rank: .* has no linear layers to adapt; train it without"):
        fit(tiny_static, tmp_path)
    assert all(parameter.requires_grad for parameter in tiny_static.model.parameters())


def test_a_missing_peft_names_the_extra(
    tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r'--lora-rank needs peft: pip install "bessemer\[lora\]"'):
        fit(tiny_bert, tmp_path)
    fit(tiny_bert, tmp_path, lora_rank=0)
