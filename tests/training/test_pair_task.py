"""Pairs in training: batches, targets, whole runs of scored and labelled ones, alone and beside queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_world
import torch

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import BessemerError, ConfigError, DataError
from bessemer.formats.pairs import LabelledPair, ScoredPair, read_pairs
from bessemer.training.batches import TrainingData
from bessemer.training.dev_pool import NamedPool, TaskPools
from bessemer.training.finetune import Selection, Tuned, finetune
from bessemer.training.losses import cosent
from bessemer.training.open_trainer import open_trainer
from bessemer.training.pair_pool import PairPool
from bessemer.training.pair_task import PairData, PairTask

TEXTS = [f"w{i} w{60 + i}" for i in range(10)]


def scored(n: int = 24) -> tuple[ScoredPair, ...]:
    """Two texts are the more alike the nearer their numbers; in their words there is nothing of it."""
    random = np.random.default_rng(4)
    sides = [(int(a), int(b)) for a, b in random.integers(0, 10, (n, 2))]
    return tuple(ScoredPair(TEXTS[a], TEXTS[b], 5 - abs(a - b) / 2) for a, b in sides)


def labelled(n: int = 24) -> tuple[LabelledPair, ...]:
    return tuple(LabelledPair(pair.left, pair.right, pair.score > 3.5) for pair in scored(n))


def test_layout_each_distinct_text_once_and_the_rows_of_both_sides(tiny_bert: DenseEncoder) -> None:
    pairs = (
        ScoredPair("w1", "w2 w3 w4", 4.0),
        ScoredPair("w2 w3 w4", "w5 w6", 1.0),
        ScoredPair("w9", "w9", 0.0),
        ScoredPair("w1", "w5 w6", 2.0),
    )
    task = PairTask(PairData(pairs), tiny_bert, FinetuneConfig(mini_batch_tokens=64))
    batch = task.batch([0, 1, 3])
    # w1, w2 w3 w4, w5 w6: with [CLS] and [SEP] 3, 5 and 4 tokens, in one mini-batch of 3 x 5.
    (features,) = task.mini_batches(batch)
    assert features["input_ids"].shape == (3, 5)
    assert (batch["left"].tolist(), batch["right"].tolist()) == ([0, 1, 0], [1, 2, 2])
    assert batch["targets"].tolist() == [1.0, 0.25, 0.5]  # of 0 to 4
    assert (batch["n_tokens"], task.pieces.n_tokens, task.pieces.n_padded_tokens) == (15, 12, 15)
    assert task.notes() == ("batch size 4: there are no more pairs", "scores from 0 to 4 were brought to 0 to 1")


@pytest.mark.parametrize(("low", "high", "targets"), [(0.2, 0.9, [0.2, 0.9]), (-1.0, 1.0, [0.0, 1.0])])
def test_scores_between_0_and_1_stay_as_they_are(
    low: float, high: float, targets: list[float], tiny_static: DenseEncoder
) -> None:
    task = PairTask(PairData((ScoredPair("a", "b", low), ScoredPair("c", "d", high))), tiny_static, FinetuneConfig())
    assert task.batch([0, 1])["targets"].tolist() == pytest.approx(targets)


def test_the_loss_is_that_of_the_encoder_s_own_vectors(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    config = FinetuneConfig(mini_batch_tokens=64)
    trainer = open_trainer([PairData(scored())], tiny_bert, None, config, 42, tmp_path)
    (task,) = trainer.tasks
    tiny_bert.model.eval()
    batch = task.batch(range(24))
    found = trainer.compute_loss(tiny_bert.model, {"task": task, **batch})
    texts = [[getattr(pair, side) for pair in scored()] for side in ("left", "right")]
    sides = [torch.from_numpy(tiny_bert.encode(column, "passage")) for column in texts]
    expected = cosent(*sides, torch.tensor([pair.score for pair in scored()]), 0.05)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((ScoredPair("a", "b", 3.0),), "train:-:score: 1 pair in all; add pairs with another score"),
        ((ScoredPair("a", "b", 3.0),) * 4, "train:-:score: all 4 scores are 3; add pairs with another score"),
        ((LabelledPair("a", "b", True),) * 4, "train:-:label: all 4 labels are 1; add pairs with another label"),
        ((), "train:-:score: 0 pair in all; add pairs with another score"),
    ],
)
def test_pairs_without_any_difference_are_refused(
    pairs: tuple[ScoredPair, ...], message: str, tiny_static: DenseEncoder
) -> None:
    with pytest.raises(DataError) as error:
        PairTask(PairData(pairs), tiny_static, FinetuneConfig())
    assert str(error.value) == message


def test_a_loss_for_other_data_is_refused(tiny_static: DenseEncoder) -> None:
    with pytest.raises(ConfigError, match="`contrastive` is no loss for scored pairs; one of: cosent, "):
        PairTask(PairData(scored()), tiny_static, FinetuneConfig(loss="contrastive"))


def run(encoder: DenseEncoder, folder: Path, data: PairData, selection: Selection | None, **settings: object) -> Tuned:
    given = {"per_device_train_batch_size": 12, "eval_steps": 5, "max_steps": 20, "early_stopping_patience": 9}
    config = FinetuneConfig(**{**given, "learning_rate": 0.05, **settings})
    return finetune([data], encoder, selection, config, 42, folder)


@pytest.mark.parametrize(
    ("pairs", "settings", "measure"),
    [
        (scored(), {}, "Spearman"),
        (scored(), {"loss": "cosine_regression"}, "Spearman"),
        (scored(), {"loss": "pair_cross_entropy", "matryoshka_dims": (8,)}, "Spearman"),
        (labelled(), {}, "AP"),
        (labelled(), {"loss": "online_contrastive"}, "AP"),
        (labelled(), {"loss": "cosent"}, "AP"),
    ],
)
def test_every_loss_learns_and_dev_is_called_by_its_name(
    pairs: tuple[ScoredPair, ...],
    settings: dict[str, object],
    measure: str,
    tiny_static: DenseEncoder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = PairPool(pairs, "24 pairs")
    before = pool.scores(tiny_static).mean()
    with caplog.at_level("INFO", logger="bessemer"):
        report = run(tiny_static, tmp_path, PairData(pairs), Selection(pool, None, 0.01), **settings).report
    assert report.dev_measure == measure
    assert [point["step"] for point in report.dev_curve] == [0, 5, 10, 15, 20]
    assert report.dev_curve[0][measure] == pytest.approx(before)
    assert max(point[measure] for point in report.dev_curve) > before + 0.05
    assert report.examples == 240
    assert report.dev_pool == "24 pairs"
    assert any(f"training: step 5 of 20, dev {measure} " in record.getMessage() for record in caplog.records)
    assert report.interpolation is not None
    chosen = {c.alpha: c.dev for c in report.interpolation.candidates}[report.interpolation.alpha]
    tuned = load_encoder(str(tmp_path / "model"), device="cpu")
    assert pool.scores(tuned).mean() == pytest.approx(chosen)


def test_pairs_and_queries_train_together(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    queries = TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives(), name="questions")
    pairs = PairData(scored(), name="likeness", settings=FinetuneConfig(per_device_train_batch_size=4))
    named = [NamedPool("questions", "", tiny_world.dev_pool()), NamedPool("likeness", "", PairPool(scored(), "24"))]
    pools = TaskPools(named)
    config = FinetuneConfig(per_device_train_batch_size=10, max_steps=16, eval_steps=8, learning_rate=0.05)
    report = finetune([queries, pairs], tiny_static, Selection(pools, None, 0.01), config, 42, tmp_path).report
    assert report.examples == 2 * (20 + 24)  # 2 + 6 batches an epoch
    assert report.dev_measure == "mean of nDCG@10 and Spearman"
    before, after = (report.dev_curve[i] for i in (0, -1))
    both = [named[0].pool.scores(tiny_static), named[1].pool.scores(tiny_static)]
    assert before[report.dev_measure] == pytest.approx(np.concatenate(both).mean())
    assert after["nDCG@10 questions"] > both[0].mean()
    assert after["Spearman likeness"] > both[1].mean()
    assert report.dev_pool == "questions: 20 dev queries over 20 passages; likeness: 24"
    assert report.notes == ("likeness: scores from 0.5 to 5 were brought to 0 to 1",)


def test_a_stopped_run_goes_on_to_the_same_weights(
    fresh_encoder: Callable[[], DenseEncoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = Selection(PairPool(scored(), "24 pairs"), None, 0.01)
    whole = run(fresh_encoder(), tmp_path / "whole", PairData(scored()), selection)
    plain = PairTask.batch

    def dying(self: PairTask, examples: list[int]) -> object:
        if self.pieces.n_tokens > limit:
            raise KeyboardInterrupt
        return plain(self, examples)

    limit = 240  # tokens: in the midst of the steps
    monkeypatch.setattr(PairTask, "batch", dying)
    with pytest.raises(KeyboardInterrupt):
        run(fresh_encoder(), tmp_path / "stopped", PairData(scored()), selection)
    assert list((tmp_path / "stopped" / "checkpoints").glob("checkpoint-*"))
    monkeypatch.setattr(PairTask, "batch", plain)
    again = run(fresh_encoder(), tmp_path / "stopped", PairData(scored()), selection)
    assert dataclasses.replace(again.report, seconds=0, examples_per_second=0, peak_memory_bytes=0, token_waste=0) == (
        dataclasses.replace(whole.report, seconds=0, examples_per_second=0, peak_memory_bytes=0, token_waste=0)
    )
    files = [next(tuned.model.glob("**/model.safetensors")).read_bytes() for tuned in (whole, again)]
    assert files[0] == files[1]


def test_a_batch_without_a_finite_loss_is_written_as_tab_separated_lines(
    tiny_bert: DenseEncoder, tmp_path: Path
) -> None:
    with pytest.raises(BessemerError, match=r"is nan at step 2; .*failed_batch.tsv"):
        run(tiny_bert, tmp_path, PairData(scored()), None, learning_rate=1e30, warmup_steps=0)
    batch = read_pairs(tmp_path / "failed_batch.tsv")
    assert len(batch) == 12
    assert set(batch) <= set(scored())


def test_a_step_by_grad_cache_has_the_plain_step_s_gradient(
    tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig(bf16=False, mini_batch_tokens=64)
    trainer = open_trainer([PairData(scored(120))], tiny_bert, None, config, 42, tmp_path)
    (task,) = trainer.tasks
    trainer.current_gradient_accumulation_steps = 1  # what train() sets
    task.pieces.budget = 12  # three texts of [CLS] w w [SEP]

    def step(whole_graph: int) -> tuple[float, torch.Tensor]:
        monkeypatch.setattr("bessemer.training.trainer.whole_graph_tokens", lambda _: whole_graph)
        tiny_bert.model.zero_grad()
        torch.manual_seed(3)
        loss = trainer.step_on(tiny_bert.model, task, task.batch(range(120)))
        found = [p.grad for p in tiny_bert.model.parameters() if p.grad is not None]
        return loss.item(), torch.cat([g.flatten() for g in found]).clone()

    assert len(task.mini_batches(task.batch(range(120)))) == 4  # of ten texts
    (plain_loss, plain), (loss, cached) = step(10**9), step(0)
    assert tiny_bert.model.training  # dropout was on
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert plain.norm() > 0.01
    assert (cached - plain).norm() / plain.norm() < 1e-5


def test_frozen_passages_leave_nothing_of_pairs_to_train(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pairs have no query side, which it trains"):
        run(tiny_static, tmp_path, PairData(scored()), None, frozen_passages=True)
