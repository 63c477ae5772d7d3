"""A killed run goes on where it was: the same weights, to the bit, as one that was left alone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import tiny_world
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder
from bessemer.errors import ConfigError
from bessemer.training.batches import Miner, TrainingData
from bessemer.training.checkpoints import last_whole_checkpoint
from bessemer.training.dev_pool import EvaluationPool
from bessemer.training.finetune import Selection, Tuned, finetune
from bessemer.types import HardNegatives

Fresh = Callable[[], DenseEncoder]


class Killed(BaseException):
    """What a test raises where a machine would stop."""


@dataclass(frozen=True)
class Deadly(EvaluationPool):
    """A pool that kills the process at its n-th evaluation (the first is 1)."""

    kills_at: int = 1
    seen: list[int] = field(default_factory=list)

    def scores(self, encoder: Encoder) -> NDArray[np.float64]:
        self.seen.append(1)
        if len(self.seen) == self.kills_at:
            raise Killed
        return super().scores(encoder)


def deadly(pool: EvaluationPool, kills_at: int) -> Deadly:
    return Deadly(pool.queries, pool.qrels, pool.passages, pool.statement, kills_at=kills_at)


def fit(
    encoder: DenseEncoder,
    folder: Path,
    dev: EvaluationPool | None = None,
    *,
    general: EvaluationPool | None = None,
    miner: Miner | None = None,
    **settings: object,
) -> Tuned:
    """20 pairs in batches of 8: three steps an epoch, so that steps 2 and 4 are in mid-epoch and 3 is not."""
    given = {"per_device_train_batch_size": 8, "max_steps": 8, "eval_steps": 2, "learning_rate": 0.02}
    given |= {"n_negatives": 2, "early_stopping_patience": 9}
    selection = Selection(dev or tiny_world.dev_pool(), general, 1.0)
    return finetune(
        [TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives(), miner)], encoder, selection,
        FinetuneConfig(**{**given, **settings}), 42, folder,
    )  # fmt: skip


def saved(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "model").glob("**/model.safetensors")
    return load_file(path)


def assert_same(a: Path, b: Path) -> None:
    first, second = saved(a), saved(b)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


def outcome(tuned: Tuned) -> dict[str, object]:
    """The report without what depends on the clock, the machine, or where the run was broken."""
    report = dataclasses.asdict(tuned.report)
    for key in ("seconds", "examples_per_second", "peak_memory_bytes", "token_waste"):
        del report[key]
    return report


@pytest.mark.parametrize(("eval_steps", "kills_at"), [(2, 2), (2, 3), (3, 2)])
def test_killed_while_training(fresh_encoder: Fresh, tmp_path: Path, eval_steps: int, kills_at: int) -> None:
    whole = fit(fresh_encoder(), tmp_path / "whole", eval_steps=eval_steps)
    encoder = fresh_encoder()
    own = encoder.copy_weights()
    with pytest.raises(Killed):
        fit(encoder, tmp_path / "broken", deadly(tiny_world.dev_pool(), kills_at), eval_steps=eval_steps)
    assert all(torch.equal(own[name], weight) for name, weight in encoder.copy_weights().items())
    last = last_whole_checkpoint(tmp_path / "broken" / "checkpoints")
    assert last is not None
    assert last.endswith(f"checkpoint-{eval_steps * (kills_at - 1)}")
    resumed = fit(fresh_encoder(), tmp_path / "broken", eval_steps=eval_steps)
    assert_same(tmp_path / "whole", tmp_path / "broken")
    assert outcome(resumed) == outcome(whole)
    assert resumed.report.examples_per_second == pytest.approx(whole.report.examples / resumed.report.seconds)


LESS_MEMORY = ({"lora_rank": 4}, {"gradient_checkpointing": True}, {"lora_rank": 4, "gradient_checkpointing": True})


@pytest.mark.parametrize("fresh_encoder", ["bert"], indirect=True)
@pytest.mark.parametrize("settings", LESS_MEMORY)
def test_killed_while_training_in_less_memory(
    fresh_encoder: Fresh, tmp_path: Path, settings: dict[str, object]
) -> None:
    pool = tiny_world.dev_pool()
    whole = fit(fresh_encoder(), tmp_path / "whole", general=pool, **settings)
    for dev, general in ((deadly(pool, 2), pool), (pool, deadly(pool, 2))):  # at step 4, and while weights are mixed
        encoder = fresh_encoder()
        own = encoder.copy_weights()
        with pytest.raises(Killed):
            fit(encoder, tmp_path / "broken", dev, general=general, **settings)
        restored = encoder.copy_weights()
        assert restored.keys() == own.keys()
        assert all(torch.equal(own[name], weight) for name, weight in restored.items())
    resumed = fit(fresh_encoder(), tmp_path / "broken", general=pool, **settings)
    assert_same(tmp_path / "whole", tmp_path / "broken")
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize("fresh_encoder", ["static"], indirect=True)
def test_the_draws_of_later_epochs_matter_to_the_weights(fresh_encoder: Fresh, tmp_path: Path) -> None:
    """Else the test above would not see a resume that draws the negatives of another epoch."""
    fit(fresh_encoder(), tmp_path / "drawn")
    finetune(
        [TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives(2))], fresh_encoder(),
        Selection(tiny_world.dev_pool(), None, 1.0),
        FinetuneConfig(
            per_device_train_batch_size=8, max_steps=8, eval_steps=2, learning_rate=0.02, n_negatives=2,
            early_stopping_patience=9,
        ),
        42, tmp_path / "always the same",
    )  # fmt: skip
    first, second = saved(tmp_path / "drawn"), saved(tmp_path / "always the same")
    assert any(not torch.equal(weight, second[name]) for name, weight in first.items())


@pytest.mark.parametrize("max_steps", [6, 8])  # the end of an epoch, and not
def test_killed_after_training_while_weights_are_mixed(fresh_encoder: Fresh, tmp_path: Path, max_steps: int) -> None:
    pool = tiny_world.dev_pool()
    whole = fit(fresh_encoder(), tmp_path / "whole", general=pool, max_steps=max_steps)
    with pytest.raises(Killed):
        fit(fresh_encoder(), tmp_path / "broken", general=deadly(pool, 2), max_steps=max_steps)
    resumed = fit(fresh_encoder(), tmp_path / "broken", general=pool, max_steps=max_steps)
    assert_same(tmp_path / "whole", tmp_path / "broken")
    assert outcome(resumed) == outcome(whole)
    assert resumed.report.steps == max_steps
    assert resumed.report.seconds > 0


@pytest.mark.parametrize("fresh_encoder", ["static"], indirect=True)
def test_killed_after_an_early_stop(fresh_encoder: Fresh, tmp_path: Path) -> None:
    pool = dataclasses.replace(tiny_world.dev_pool(), passages=tiny_world.passages()[:1])  # nothing to gain
    whole = fit(fresh_encoder(), tmp_path / "whole", pool, general=pool, early_stopping_patience=1)
    with pytest.raises(Killed):
        fit(fresh_encoder(), tmp_path / "broken", pool, general=deadly(pool, 2), early_stopping_patience=1)
    resumed = fit(fresh_encoder(), tmp_path / "broken", pool, general=pool, early_stopping_patience=1)
    assert_same(tmp_path / "whole", tmp_path / "broken")
    assert outcome(resumed) == outcome(whole)
    assert (resumed.report.steps, resumed.report.best_step, resumed.report.stopped_early) == (4, 2, True)


@pytest.mark.parametrize("fresh_encoder", ["static"], indirect=True)
def test_patience_is_remembered_over_a_kill(fresh_encoder: Fresh, tmp_path: Path) -> None:
    pool = dataclasses.replace(tiny_world.dev_pool(), passages=tiny_world.passages()[:1])
    with pytest.raises(Killed):
        fit(fresh_encoder(), tmp_path, deadly(pool, 3), early_stopping_patience=2)
    report = fit(fresh_encoder(), tmp_path, pool, early_stopping_patience=2).report
    assert (report.steps, report.stopped_early) == (6, True)


@pytest.mark.parametrize("fresh_encoder", ["static"], indirect=True)
@pytest.mark.parametrize("state", [None, "", '{"global_step": 4, "max_st'])
def test_a_half_written_checkpoint_is_ignored(fresh_encoder: Fresh, tmp_path: Path, state: str | None) -> None:
    fit(fresh_encoder(), tmp_path / "whole")
    with pytest.raises(Killed):
        fit(fresh_encoder(), tmp_path / "broken", deadly(tiny_world.dev_pool(), 2))
    half = tmp_path / "broken" / "checkpoints" / "checkpoint-4"
    half.mkdir()
    shutil.copy(half.with_name("checkpoint-2") / "optimizer.pt", half)
    (half / "model.safetensors").write_bytes(b"\x08\0\0\0")
    if state is not None:
        (half / "trainer_state.json").write_text(state)
    last = last_whole_checkpoint(half.parent)
    assert last == str(half.with_name("checkpoint-2"))
    fit(fresh_encoder(), tmp_path / "broken")
    assert_same(tmp_path / "whole", tmp_path / "broken")


def test_the_newest_whole_checkpoint_by_number(tmp_path: Path) -> None:
    assert last_whole_checkpoint(tmp_path / "none") is None
    for step in (9, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (tmp_path / "checkpoint-100" / "trainer_state.json").unlink()
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def nearest(encoder: DenseEncoder) -> list[HardNegatives]:
    """For each query of the tiny world the three passages that the encoder, as it is now, puts nearest, bar its own."""
    train, passages = tiny_world.train(), tiny_world.passages()
    scores = (
        encoder.encode([q.text for q in train.queries], "query")
        @ encoder.encode([p.indexed_text for p in passages], "passage").T
    )
    np.fill_diagonal(scores, -np.inf)
    ids = [[passages[p].passage_id for p in np.argsort(-row, kind="stable")[:3]] for row in scores]
    return [
        HardNegatives(q.query_id, tuple(found), (0.0,) * 3, {}, "nearest")
        for q, found in zip(train.queries, ids, strict=True)
    ]


@pytest.mark.parametrize(("eval_steps", "kills_at"), [(2, 2), (3, 2)])
def test_negatives_mined_while_training_go_on_after_a_kill(
    fresh_encoder: Fresh, tmp_path: Path, eval_steps: int, kills_at: int
) -> None:
    given = {"eval_steps": eval_steps, "refresh_steps": 2, "miner": nearest}
    whole = fit(fresh_encoder(), tmp_path / "whole", **given)
    with pytest.raises(Killed):
        fit(fresh_encoder(), tmp_path / "broken", deadly(tiny_world.dev_pool(), kills_at), **given)
    resumed = fit(fresh_encoder(), tmp_path / "broken", **given)
    assert_same(tmp_path / "whole", tmp_path / "broken")
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize("fresh_encoder", ["static"], indirect=True)
def test_each_refresh_mines_with_the_weights_of_its_step(fresh_encoder: Fresh, tmp_path: Path) -> None:
    seen = []

    def watching(encoder: DenseEncoder) -> list[HardNegatives]:
        seen.append({name: weight.clone() for name, weight in encoder.copy_weights().items()})
        return nearest(encoder)

    encoder = fresh_encoder()
    own = encoder.copy_weights()
    fit(encoder, tmp_path / "refreshed", miner=watching, refresh_steps=3, max_steps=8)
    fit(fresh_encoder(), tmp_path / "plain", max_steps=8)
    assert len(seen) == 2  # steps 3 and 6
    assert all(not torch.equal(seen[0][name], own[name]) for name in own)
    assert any(not torch.equal(seen[0][name], seen[1][name]) for name in own)
    first, second = saved(tmp_path / "refreshed"), saved(tmp_path / "plain")
    assert any(not torch.equal(weight, second[name]) for name, weight in first.items())


def test_a_checkpoint_of_another_batch_size_is_refused(fresh_encoder: Fresh, tmp_path: Path) -> None:
    """What `auto` gives depends on the device: its steps would be taken for steps of the new size."""
    pool = deadly(tiny_world.dev_pool(), kills_at=3)
    with pytest.raises(Killed):
        fit(fresh_encoder(), tmp_path, pool, per_device_train_batch_size=8)
    with pytest.raises(ConfigError, match=r"made with batches of 8, where `auto` gives 3 now"):
        fit(fresh_encoder(), tmp_path, tiny_world.dev_pool(), per_device_train_batch_size=3)


def test_a_resumed_run_trains_in_the_precision_of_the_first(
    tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before training, and found that bf16 does not do, may have been read from disk."""
    monkeypatch.setattr("bessemer.encoders.dense.MIN_BF16_COSINE", 2.0)
    tiny_bert.bf16 = True
    fit(tiny_bert, tmp_path)
    assert not tiny_bert.bf16
