"""The gradient in parts is the gradient of the whole, dropout included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.load import load_encoder
from bessemer.training.batches import TrainingData
from bessemer.training.cpu import fast_training
from bessemer.training.grad_cache import cached_backward
from bessemer.training.open_trainer import open_trainer
from bessemer.types import HardNegatives, Judged, Passage, Query


def test_a_loss_that_couples_all_parts_by_hand() -> None:
    """loss = (w(1 + 2) * w(3))^2 with embed(x) = w x: 9 * 9 w^4 = 81 w^4, gradient 324 w^3."""
    weight = nn.Parameter(torch.tensor(2.0))
    parts = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])]
    loss = cached_backward(
        parts, lambda x: weight * x, lambda found: (found[0].sum() * found[1].sum()) ** 2, torch.Tensor.backward
    )
    assert loss.item() == 81 * 16
    assert weight.grad.item() == 324 * 8
    assert not loss.requires_grad


def test_dropout_drops_the_same_in_both_passes_and_goes_on_as_if_there_had_been_one() -> None:
    weight = nn.Parameter(torch.ones(1000))
    dropout = nn.Dropout(0.5)
    seen: list[torch.Tensor] = []

    def embed(x: torch.Tensor) -> torch.Tensor:
        seen.append(dropout(weight * x))
        return seen[-1]

    torch.manual_seed(0)
    cached_backward([torch.ones(1000)] * 2, embed, lambda found: sum(f.sum() for f in found), torch.Tensor.backward)
    following = torch.rand(1)
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(weight.grad, (seen[0] + seen[1]).detach())
    torch.manual_seed(0)
    for _ in range(2):
        dropout(torch.ones(1000))
    assert torch.equal(torch.rand(1), following)


@pytest.mark.parametrize("fast", [True, False])
def test_a_training_step_in_fp32_has_the_plain_step_s_gradient(
    fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder("minilm", bf16=False)
    passages = [Passage(f"p{i}", "d", f"text number {i} about " + "iron and steel " * i) for i in range(12)]
    judged = Judged(tuple(Query(f"q{i}", f"question {i}") for i in range(6)), {f"q{i}": {f"p{i}": 1} for i in range(6)})
    negatives = [HardNegatives(f"q{i}", (f"p{i + 6}",), (0.5,), {}, "given") for i in range(6)]
    config = FinetuneConfig(bf16=False, mini_batch_tokens=64)
    trainer = open_trainer([TrainingData(judged, passages, negatives)], encoder, None, config, 42, tmp_path)
    (task,) = trainer.tasks
    trainer.current_gradient_accumulation_steps = 1  # what train() sets

    def step(whole_graph: int) -> tuple[float, torch.Tensor]:
        monkeypatch.setattr("bessemer.training.trainer.whole_graph_tokens", lambda _: whole_graph)
        encoder.model.zero_grad()
        torch.manual_seed(3)
        loss = trainer.step_on(encoder.model, task, task.batch(range(6)))
        found = [p.grad for p in encoder.model.parameters() if p.grad is not None]
        assert not any(g.is_sparse for g in found)
        return loss.item(), torch.cat([g.flatten() for g in found]).clone()

    if fast:
        with fast_training(encoder, bf16=False):
            (plain_loss, plain), (loss, cached) = step(10**9), step(0)
    else:
        (plain_loss, plain), (loss, cached) = step(10**9), step(0)
    assert encoder.model.training  # dropout was on
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert plain.norm() > 0.01
    assert (cached - plain).norm() / plain.norm() < 1e-5
