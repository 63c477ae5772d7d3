"""Half precision with a scaled loss. No GPU is needed: its arguments are looked at, and torch's scaler for CPUs runs in
its place, with all in float32, where it overflows as it would in fp16."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import tiny_world
import torch
from torch import nn

from bessemer.config import FinetuneConfig, load_config
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import BessemerError, ConfigError
from bessemer.training.arguments import training_arguments
from bessemer.training.batches import TrainingData
from bessemer.training.finetune import finetune
from bessemer.training.grad_cache import cached_backward
from bessemer.training.open_trainer import open_trainer
from bessemer.training.trainer import ContrastiveTrainer

DATA = [TrainingData(tiny_world.train(), tiny_world.passages())]


@pytest.mark.parametrize(
    ("settings", "precision"),
    [
        ({"bf16": False}, (False, False)),
        ({"fp16": True}, (False, True)),
        ({"fp16": True, "bf16": False}, (False, True)),
    ],
)
def test_the_arguments_on_a_gpu(
    tiny_bert: DenseEncoder, tmp_path: Path, settings: dict[str, bool], precision: tuple[bool, bool]
) -> None:
    tiny_bert.device, tiny_bert.bf16 = "cuda", True  # as load_encoder finds them on a card that has bf16
    found = training_arguments(FinetuneConfig(**settings), 10, tmp_path, tiny_bert, seed=1, measure=None)
    assert (found.bf16, found.fp16) == precision


def test_on_a_cpu_it_is_refused(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--fp16: the CPU trains in fp32, or in bf16 with --bf16; fp16 needs a GPU"):
        finetune(DATA, tiny_bert, None, FinetuneConfig(fp16=True), 42, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_two_precisions_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="fp16 and bf16 cannot both be on"):
        load_config(None, {"finetune.fp16": True, "finetune.bf16": True})


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_a_norm_that_overflowed_stops_only_without_a_scale_to_lower(
    tiny_bert: DenseEncoder, tmp_path: Path, norm: float
) -> None:
    def told(scale: float) -> None:
        trainer = with_scaler(tiny_bert, tmp_path / "checkpoints", scale)
        (task,) = trainer.tasks
        trainer._batch = task, [0, 1, 2]
        trainer.state.global_step = 6
        trainer._get_grad_norm(trainer.model, norm)

    (tmp_path / "checkpoints").mkdir()
    told(65536.0)
    told(2.0)
    with pytest.raises(BessemerError, match=r"gradient is (inf|nan) at step 7; .* without --bf16 or --fp16") as stop:
        told(1.0)
    assert str(stop.value).endswith(f"The batch is in {tmp_path / 'failed_batch.jsonl'}.")
    assert len((tmp_path / "failed_batch.jsonl").read_text().splitlines()) == 3


def with_scaler(encoder: DenseEncoder, folder: Path, scale: float) -> ContrastiveTrainer:
    config = FinetuneConfig(per_device_train_batch_size=8, max_steps=12, bf16=False, max_grad_norm=1.0)
    trainer = open_trainer(DATA, encoder, None, config, 42, folder)
    trainer.args.logging_steps = 1
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.accelerator.native_amp = True
    return trainer


def test_steps_that_overflow_are_left_out_and_training_goes_on(
    tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = with_scaler(tiny_bert, tmp_path, 2.0**127)  # the loss times this is beyond float32
    monkeypatch.setattr(type(trainer.accelerator), "mixed_precision", "fp16")  # else it does not take the scale off
    own = tiny_bert.copy_weights()
    trainer.train_from(None)
    norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    assert len(norms) == 12
    assert not any(map(math.isfinite, norms[:3]))
    assert all(map(math.isfinite, norms[-3:]))
    assert trainer.accelerator.scaler.get_scale() < 2.0**126
    after = tiny_bert.copy_weights()
    assert all(torch.isfinite(weight).all() for weight in after.values())
    assert any(not torch.equal(own[name], after[name]) for name in own)
    state = torch.load(tmp_path / "checkpoint-12" / "scaler.pt", weights_only=True)
    assert state["scale"] == trainer.accelerator.scaler.get_scale()
    json.loads((tmp_path / "checkpoint-12" / "trainer_state.json").read_text())


@pytest.mark.parametrize("scale", [1.0, 65536.0])
def test_grad_cache_scales_once(scale: float) -> None:
    """The plain way scales the loss. GradCache finds the gradient at the embeddings of the unscaled loss, in float32,
    and scales what goes back from there: the same product. A power of two rounds nothing, so it is equal to the bit."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 4)
    parts = [torch.randn(3, 8), torch.randn(5, 8)]

    def loss_of(found: list[torch.Tensor]) -> torch.Tensor:
        return torch.logsumexp(found[0] @ found[1].T / 0.05, dim=1).mean()

    def gradient(scale: float) -> torch.Tensor:
        layer.zero_grad()
        cached_backward(parts, layer, loss_of, lambda loss: (loss * scale).backward())
        return layer.weight.grad.clone()

    layer.zero_grad()
    (loss_of([layer(part) for part in parts]) * scale).backward()
    torch.testing.assert_close(gradient(scale), layer.weight.grad.clone())
    assert torch.equal(gradient(scale), scale * gradient(1.0))
