"""Layers computed again in the backward pass: the same gradient, from less memory, and the model as it was."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import ConfigError
from bessemer.training.batches import TrainingData
from bessemer.training.cpu import fast_training
from bessemer.training.lora import lora
from bessemer.training.open_trainer import open_trainer
from bessemer.training.recompute import gradient_checkpointing
from bessemer.types import Judged, Passage, Query

PASSAGES = [Passage(f"p{i}", "d", f"text number {i} about " + "iron and steel " * i) for i in range(6)]
JUDGED = Judged(tuple(Query(f"q{i}", f"question {i}") for i in range(6)), {f"q{i}": {f"p{i}": 1} for i in range(6)})


@pytest.fixture
def encoder() -> DenseEncoder:
    return load_encoder("minilm", device="cpu", bf16=False)


def set_dropout(encoder: DenseEncoder, p: float) -> None:
    for module in encoder.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p


def gradient(encoder: DenseEncoder, folder: Path, *, recompute: bool, cached: bool, fast: bool) -> torch.Tensor:
    """Of a whole training step, all weights in one vector."""
    config = FinetuneConfig(bf16=False, mini_batch_tokens=64)
    trainer = open_trainer([TrainingData(JUDGED, PASSAGES)], encoder, None, config, 42, folder)
    (task,) = trainer.tasks
    trainer.current_gradient_accumulation_steps = 1  # what train() sets
    trainer._was_halved = cached
    encoder.model.zero_grad()
    with gradient_checkpointing(encoder, recompute), fast_training(encoder, bf16=False) if fast else nullcontext():
        torch.manual_seed(3)
        trainer.step_on(encoder.model, task, task.batch(range(6)))
    assert encoder.model.training  # else nothing would be computed again
    found = [p.grad for p in encoder.model.parameters() if p.grad is not None]
    return torch.cat([g.flatten() for g in found]).clone()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("cached", [False, True], ids=["whole graph", "GradCache"])
@pytest.mark.parametrize("fast", [False, True])
def test_gradients_are_those_without(
    encoder: DenseEncoder, tmp_path: Path, dropout: float, cached: bool, fast: bool
) -> None:
    set_dropout(encoder, dropout)
    plain = gradient(encoder, tmp_path, recompute=False, cached=cached, fast=fast)
    found = gradient(encoder, tmp_path, recompute=True, cached=cached, fast=fast)
    assert plain.norm() > 0.01
    assert (found - plain).norm() / plain.norm() < 1e-6


def test_in_bf16_with_our_attention_and_adapters(encoder: DenseEncoder) -> None:
    def step(recompute: bool) -> torch.Tensor:
        encoder.model.zero_grad()
        encoder.model.train()
        with gradient_checkpointing(encoder, recompute), fast_training(encoder, bf16=True):
            torch.manual_seed(3)
            texts = [passage.text for passage in PASSAGES]
            with torch.autocast("cpu", torch.bfloat16):
                vectors = encoder.embed(encoder.features(encoder.tokenize(texts, "passage"), "passage"))
            (vectors * torch.linspace(-1, 1, vectors.numel()).view_as(vectors)).sum().backward()
        return torch.cat([p.grad.flatten() for p in encoder.model.parameters() if p.grad is not None])

    with lora(encoder, FinetuneConfig(lora_rank=4), seed=1):
        plain = step(False)
        assert plain.norm() > 0
        assert torch.equal(step(True), plain)


def test_layers_are_computed_twice_and_only_while_training(encoder: DenseEncoder, tmp_path: Path) -> None:
    calls = []
    for layer in encoder.model[0].model.encoder.layer:
        layer.intermediate.dense.register_forward_hook(lambda *_: calls.append(1))
    gradient(encoder, tmp_path, recompute=False, cached=False, fast=False)
    n_plain = len(calls)
    gradient(encoder, tmp_path, recompute=True, cached=False, fast=False)
    assert len(calls) == 3 * n_plain
    calls.clear()
    with gradient_checkpointing(encoder, True):
        encoder.encode([passage.text for passage in PASSAGES], "passage")
    assert len(calls) == 6


def test_the_model_is_as_before_afterwards_also_after_an_error(encoder: DenseEncoder, tmp_path: Path) -> None:
    transformer = encoder.model[0].model
    fingerprint, configuration = encoder.fingerprint, transformer.config.to_dict()
    vectors = encoder.encode(["steel"], "query")

    def fails() -> None:
        with gradient_checkpointing(encoder, True):
            assert transformer.is_activation_checkpointing
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert not transformer.is_activation_checkpointing
    assert not any(module._forward_hooks for module in transformer.modules())
    assert (encoder.fingerprint, transformer.config.to_dict()) == (fingerprint, configuration)
    assert np.array_equal(encoder.encode(["steel"], "query"), vectors)


def test_static_models_have_no_layers(tiny_static: DenseEncoder) -> None:
    with (
        pytest.raises(ConfigError, match=r"--gradient-checkpointing: .* is a static model"),
        gradient_checkpointing(tiny_static, True),
    ):
        pass


def test_a_model_that_cannot_says_so(tiny_bert: DenseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tiny_bert.model[0].model), "supports_gradient_checkpointing", False)
    with (
        pytest.raises(ConfigError, match=r"--gradient-checkpointing: .* cannot"),
        gradient_checkpointing(tiny_bert, True),
    ):
        pass
