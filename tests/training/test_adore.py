"""Queries alone learn: live retrieval by hand, the loss on frozen vectors, and what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_world
import torch
import unified_world
from sentence_transformers import SentenceTransformer

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.encoders.two_towers import TwoTowerEncoder
from bessemer.errors import ConfigError
from bessemer.training.adore import FrozenPassagesTask
from bessemer.training.batches import TrainingData
from bessemer.training.finetune import Selection, finetune
from bessemer.training.losses import info_nce
from bessemer.types import Judged, Passage, Query


def task_of(encoder: DenseEncoder, n_negatives: int = 2) -> FrozenPassagesTask:
    passages = [
        Passage("p0", "d", "w10"), Passage("p1", "d", "w11 w12"), Passage("p2", "d", "W10"),  # the words of p0
        Passage("p3", "d", "w13"), Passage("p4", "d", "w14 w15"),
    ]  # fmt: skip
    judged = Judged((Query("a", "w10 w13"), Query("b", "w14")), {"a": {"p0": 1}, "b": {"p4": 1, "p1": 1}})
    config = FinetuneConfig(n_negatives=n_negatives, temperature=0.1)
    return FrozenPassagesTask(TrainingData(judged, passages), encoder, config, 42)


@pytest.mark.parametrize("searched", [2, 100])
def test_the_nearest_that_are_not_relevant(
    tiny_static: DenseEncoder, monkeypatch: pytest.MonkeyPatch, searched: int
) -> None:
    monkeypatch.setattr("bessemer.training.adore.SEARCHED", searched)
    task = task_of(tiny_static)
    batch = task.batch([0, 1])
    queries = torch.from_numpy(tiny_static.encode(["w10 w13", "w14"], "query"))
    found = task.retrieve(queries, batch["never"])
    scores = queries.numpy() @ tiny_static.encode(["w10", "w11 w12", "W10", "w13", "w14 w15"], "passage").T
    scores[0, 0] = scores[1, [1, 4]] = -np.inf  # judged; W10 is another word to this tokenizer, but the same text to us
    scores[0, 2] = -np.inf
    assert found.tolist() == np.argsort(-scores, axis=1)[:, :2].tolist()


def test_the_loss_is_info_nce_over_positives_and_what_was_found(tiny_bert: DenseEncoder) -> None:
    task = task_of(tiny_bert)
    batch = task.batch([0, 2])  # a with p0, b with p4
    queries = torch.from_numpy(tiny_bert.encode(["w10 w13", "w14"], "query")).requires_grad_()
    passages = torch.from_numpy(tiny_bert.encode(["w10", "w11 w12", "W10", "w13", "w14 w15"], "passage"))
    hardest = task.retrieve(queries.detach(), batch["never"])
    columns = sorted({0, 4, *hardest.flatten().tolist()})
    never = ({0, 2}, {1, 4})
    excluded = torch.tensor([[c in never[row] for c in columns] for row in range(2)])
    positives = torch.tensor([columns.index(0), columns.index(4)])
    expected = info_nce(queries, passages[columns], positives, excluded, 0.1)
    by_order = [queries[[int((batch["order"] == i).nonzero())]] for i in range(2)]  # in mini-batch order
    loss = task.loss(by_order, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, reference = (torch.autograd.grad(value, queries, retain_graph=True)[0] for value in (loss, expected))
    assert torch.allclose(ours, reference, atol=1e-6)


def test_the_saved_model_has_a_tuned_query_tower_and_the_base_s_passages(
    tiny_static: DenseEncoder, tmp_path: Path
) -> None:
    own = tiny_static.copy_weights()
    pool = tiny_world.dev_pool()
    before = pool.scores(tiny_static).mean()
    config = FinetuneConfig(
        per_device_train_batch_size=8, max_steps=12, eval_steps=4, early_stopping_patience=9, learning_rate=0.1,
        n_negatives=3, frozen_passages=True,
    )  # fmt: skip
    data = TrainingData(tiny_world.train(), tiny_world.passages())
    tuned = finetune([data], tiny_static, Selection(pool, pool, 1.0), config, 42, tmp_path)
    assert all(torch.equal(own[name], weight) for name, weight in tiny_static.copy_weights().items())
    assert "only the query side was trained, against 3 live negatives per query" in tuned.report.notes
    loaded = load_encoder(str(tuned.model), device="cpu")
    assert isinstance(loaded, TwoTowerEncoder)
    texts = [passage.text for passage in tiny_world.passages()]
    assert np.array_equal(loaded.encode(texts, "passage"), tiny_static.encode(texts, "passage"))
    asked = [query.text for query in tiny_world.train().queries]
    assert np.abs(loaded.encode(asked, "query") - tiny_static.encode(asked, "query")).max() > 0.01
    assert tuned.report.interpolation is not None
    chosen = {c.alpha: c.dev for c in tuned.report.interpolation.candidates}[tuned.report.interpolation.alpha]
    assert pool.scores(loaded).mean() == pytest.approx(chosen)
    assert chosen > before + 0.1
    plain = SentenceTransformer(str(tuned.model), device="cpu")
    assert np.abs(plain.encode_query(asked) - loaded.encode(asked, "query")).max() < 1e-6
    with pytest.raises(ConfigError, match="tune a model with one encoder"):
        finetune([data], loaded, None, config, 42, tmp_path / "again")


def test_a_model_with_heads_is_refused_whatever_trains(tiny_bert_model: Path, tmp_path: Path) -> None:
    """Two towers would hold none of them."""
    encoder = unified_world.opened(tiny_bert_model)
    data = TrainingData(tiny_world.train(), tiny_world.passages())
    with pytest.raises(
        ConfigError, match=r"--frozen-passages: .* has heads, .*; give the dense model that it was made"
    ):
        finetune([data], encoder, None, FinetuneConfig(frozen_passages=True), 42, tmp_path)
    assert not (tmp_path / "checkpoints").exists()
