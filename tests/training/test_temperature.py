"""The temperature that is taken where none is asked for: by what the scores are, in every loss."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import unified_world

from bessemer.config import FinetuneConfig
from bessemer.encoders.multi_vector import load_multi_vector
from bessemer.encoders.sparse import load_sparse
from bessemer.training.losses import (
    Calibration,
    batch_loss,
    cosent,
    distillation,
    info_nce,
    pair_loss,
    stable_distillation,
    teacher_loss,
)
from bessemer.training.unified_task import lanes_of

QUERIES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
PASSAGES = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
BATCH = QUERIES, PASSAGES, torch.tensor([0, 1]), torch.zeros(2, 3, dtype=torch.bool)
TAUGHT = *BATCH, torch.tensor([[0, 1], [1, 2]]), torch.tensor([[2.0, 1.0], [0.0, 3.0]])
PAIRS = QUERIES, PASSAGES[:2], torch.tensor([0.2, 0.9])


@pytest.mark.parametrize(
    ("asked", "normalised", "expected"), [(None, True, 0.05), (None, False, 1.0), (0.3, True, 0.3), (0.3, False, 0.3)]
)
def test_losses_of_cosines_and_of_dot_products(asked: float | None, normalised: bool, expected: float) -> None:
    def config(loss: str) -> FinetuneConfig:
        return FinetuneConfig(loss=loss, temperature=asked)

    found = batch_loss(config("info_nce"), 2, normalised=normalised)(*BATCH)
    assert found.item() == pytest.approx(info_nce(*BATCH, expected).item())
    found = pair_loss(config("cosent"), 2, normalised=normalised, labelled=False)(*PAIRS)
    assert found.item() == pytest.approx(cosent(*PAIRS, expected).item())
    for loss in (distillation, stable_distillation):
        of_teacher = teacher_loss(config(loss.__name__), Calibration(0.5), 2, normalised=normalised)
        plain = partial(loss, temperature=expected, teacher_temperature=0.5)
        assert of_teacher(*TAUGHT).item() == pytest.approx(plain(*TAUGHT).item())


def test_heads_go_by_the_scores_of_what_trains(
    tiny_bert_model: Path, tiny_splade_model: Path, tiny_colbert_model: Path
) -> None:
    def temperature(encoder: Any, **settings: Any) -> float:
        return lanes_of(encoder, FinetuneConfig(**settings)).temperature

    splade, colbert = load_sparse(str(tiny_splade_model), device="cpu"), load_multi_vector(str(tiny_colbert_model))
    assert temperature(splade, head="sparse") == 1.0
    assert temperature(splade, head="sparse", temperature=0.2) == 0.2
    splade.model.similarity_fn_name = "cosine"
    assert temperature(splade, head="sparse") == 0.05
    assert temperature(colbert, head="multi") == 0.05

    unified = unified_world.opened(tiny_bert_model)
    assert temperature(unified, head="unified") == 0.05
    unified.similarity = "dot"
    assert [temperature(unified, head=head) for head in ("unified", "sparse", "multi")] == [1.0, 0.05, 0.05]
