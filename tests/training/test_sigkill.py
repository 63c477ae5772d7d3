"""SIGKILL, as a machine out of memory sends it: nothing is tidied up, and the same call ends as if left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch
import unified_world
from test_resume import assert_same, fit, nearest, outcome

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.training.batches import Miner
from bessemer.training.callbacks import RefreshNegatives
from bessemer.training.checkpoints import last_whole_checkpoint
from bessemer.training.finetune import Tuned
from bessemer.training.trainer import ContrastiveTrainer
from bessemer.types import HardNegatives

PATIENCE = 120
"""Seconds after which a process counts as hanging."""

REFRESHED = {"eval_steps": 3, "refresh_steps": 2}
"""Checkpoints after steps 3 and 6, negatives mined after 2, 4 and 6, in eight steps."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_in_step(step: int) -> Miner:
    whole = ContrastiveTrainer.training_step

    def broken(self: ContrastiveTrainer, *arguments: Any, **named: Any) -> torch.Tensor:
        if self.state.global_step == step - 1:
            die()
        return whole(self, *arguments, **named)

    ContrastiveTrainer.training_step = broken
    return nearest


def dies_in_refresh(nth: int) -> Miner:
    """With the queries encoded."""
    calls: list[int] = []

    def mine(encoder: DenseEncoder) -> list[HardNegatives]:
        calls.append(1)
        if len(calls) == nth:
            encoder.encode([query.text for query in tiny_world.train().queries], "query")
            die()
        return nearest(encoder)

    return mine


def dies_after_refresh(nth: int) -> Miner:
    """Before anything else is done in that step."""
    whole, calls = RefreshNegatives.on_step_end, []

    def broken(self: RefreshNegatives, *arguments: Any, **named: Any) -> None:
        whole(self, *arguments, **named)
        if len(calls) == nth:
            die()

    def mine(encoder: DenseEncoder) -> list[HardNegatives]:
        calls.append(1)
        return nearest(encoder)

    RefreshNegatives.on_step_end = broken
    return mine


def dies_while_saving(step: int) -> Miner:
    """Weights and negatives of the checkpoint are written, its optimizer and state are not."""
    whole = ContrastiveTrainer._save

    def save(self: ContrastiveTrainer, *arguments: Any, **named: Any) -> None:
        whole(self, *arguments, **named)
        if self.state.global_step == step:
            die()

    ContrastiveTrainer._save = save
    return nearest


KILLS: dict[str, tuple[Callable[[int], Miner], int, int]] = {
    "between checkpoints": (dies_in_step, 5, 3),
    "before the first checkpoint": (dies_in_step, 3, 0),
    "in the refresh of step 4": (dies_in_refresh, 2, 3),
    "after the refresh of step 4": (dies_after_refresh, 2, 3),
    "in the refresh of step 6, before its checkpoint": (dies_in_refresh, 3, 3),
    "while the checkpoint of step 6 is written": (dies_while_saving, 6, 3),
}
"""What kills, its number, and the step of the last checkpoint that is left."""


def train(kind: str, model: Path, folder: Path, miner: Miner = nearest) -> Tuned:
    if kind == "unified":
        encoder = unified_world.opened(model, dropout=True)
        pool = tiny_world.dev_pool().ranked_by("unified")
        given = {"head": "unified", "bf16": False, "learning_rate": 1e-3}
        taught = {"self_distillation": True, "self_distillation_start": 2}
        return fit(encoder, folder, pool, miner=miner, logging_steps=1, **REFRESHED, **given, **taught)
    encoder = load_encoder(str(model), device="cpu", bf16=False)
    return fit(encoder, folder, miner=miner, logging_steps=1, **REFRESHED)


def killed(kind: str, model: Path, folder: Path, kill: str) -> None:
    torch.set_num_threads(1)
    arm, number, _ = KILLS[kill]
    train(kind, model, folder, arm(number))


def exit_code(work: Callable[..., None], *arguments: Any) -> int | None:
    """Of a process of its own; None for one that had to be ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bessemer.training.finetune"])
    process = context.Process(target=work, args=arguments)
    process.start()
    process.join(PATIENCE)
    code = process.exitcode
    process.kill()
    process.join()
    return code


@pytest.fixture(scope="module")
def whole(
    request: pytest.FixtureRequest, tiny_static_model: Path, tiny_bert_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path, Path, Tuned]:  # fmt: skip
    """A kind of model, its folder, and what came of a run that was left alone."""
    kind, folder = request.param, tmp_path_factory.mktemp("whole")
    model = tiny_static_model if kind == "static" else tiny_bert_model
    return kind, model, folder, train(kind, model, folder)


OF_ALL_KINDS = ("between checkpoints", "after the refresh of step 4")
CASES = [("static", kill) for kill in KILLS] + [
    pytest.param(kind, kill, marks=pytest.mark.slow) for kind in ("bert", "unified") for kill in OF_ALL_KINDS
]


@pytest.mark.parametrize(("whole", "kill"), CASES, indirect=["whole"])
def test_killed_at_any_moment_ends_as_if_left_alone(
    whole: tuple[str, Path, Path, Tuned], kill: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, model, folder, expected = whole
    assert exit_code(killed, kind, model, tmp_path, kill) == -signal.SIGKILL
    assert not (tmp_path / "model").exists()
    last = last_whole_checkpoint(tmp_path / "checkpoints")
    done = 0 if last is None else int(last.rsplit("-", 1)[1])
    assert done == KILLS[kill][2]
    steps, plain = [], ContrastiveTrainer.training_step

    def training_step(self: ContrastiveTrainer, *arguments: Any, **named: Any) -> torch.Tensor:
        steps.append(self.state.global_step + 1)
        return plain(self, *arguments, **named)

    monkeypatch.setattr(ContrastiveTrainer, "training_step", training_step)
    resumed = train(kind, model, tmp_path)
    assert steps == list(range(done + 1, 9))  # it did not begin anew
    assert_same(folder, tmp_path)
    assert [point["step"] for point in resumed.report.loss_curve] == list(range(1, 9))
    assert outcome(resumed) == outcome(expected)


@pytest.mark.parametrize("whole", ["static"], indirect=True)
def test_what_the_refreshes_mined_is_what_the_checkpoint_holds(
    whole: tuple[str, Path, Path, Tuned], tmp_path: Path
) -> None:
    """A run that forgot them on its way back would end elsewhere: the test above is no formality."""
    kind, model, folder, _ = whole
    assert exit_code(killed, kind, model, tmp_path, "between checkpoints") == -signal.SIGKILL
    file = tmp_path / "checkpoints" / "checkpoint-3" / "negatives.json"
    rows = json.loads(file.read_text(encoding="utf-8"))
    assert {row["strategy"] for row in rows[0]} == {"nearest"}  # not as given
    rows[0] = [{**row, "passage_ids": ["p0", "p1", "p2"]} for row in rows[0]]
    file.write_text(json.dumps(rows), encoding="utf-8")
    train(kind, model, tmp_path)
    with pytest.raises(AssertionError):
        assert_same(folder, tmp_path)
