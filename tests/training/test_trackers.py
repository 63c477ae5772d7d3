"""What trackers and the terminal are told while a run goes on."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_world
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import BessemerError, ConfigError
from bessemer.measures import PRIMARY
from bessemer.training.batches import TrainingData
from bessemer.training.callbacks import Progress
from bessemer.training.finetune import Selection, TrainingReport, finetune
from bessemer.training.trackers import open_trackers


def fit(encoder: DenseEncoder, folder: Path, **settings: object) -> TrainingReport:
    given = {"per_device_train_batch_size": 8, "max_steps": 6, "eval_steps": 3, "interpolation": False}
    data = [TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives())]
    selection = Selection(tiny_world.dev_pool(), None, 0.01)
    return finetune(data, encoder, selection, FinetuneConfig(**{**given, **settings}), 42, folder).report


class Recorder(TrainerCallback):
    """A tracker that remembers."""

    def __init__(self) -> None:
        RECORDERS.append(self)
        self.logs: list[dict[str, Any]] = []
        self.run_name = ""

    def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
        self.run_name = args.run_name

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        self.logs.append({**logs, "step": state.global_step})


RECORDERS: list[Recorder] = []


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "wandb", Recorder)
    monkeypatch.setattr(
        "bessemer.training.trackers.get_available_reporting_integrations",
        lambda: [*get_available_reporting_integrations(), "wandb"],
    )
    RECORDERS.clear()
    return RECORDERS


def test_a_tracker_gets_loss_speed_padding_and_dev(
    tiny_bert: DenseEncoder, tmp_path: Path, recorder: list[Recorder]
) -> None:
    report = fit(tiny_bert, tmp_path, report_to=("wandb",), run_name="first", logging_steps=2)
    (tracker,) = recorder
    assert tracker.run_name == "first"
    losses = [entry for entry in tracker.logs if "loss" in entry]
    assert [entry["step"] for entry in losses] == [2, 3, 4, 6]  # 3: looked at before it is saved
    assert {"grad_norm", "learning_rate", "examples_per_second", "token_waste"} <= losses[0].keys()
    assert [entry["step"] for entry in tracker.logs if f"eval_{PRIMARY}" in entry] == [3, 6]
    # batches of 6, 7 and 7: the seconds between two logs and the examples in them add up to the report's
    n_examples = (13, 7, 6, 14)
    seconds = sum(n / entry["examples_per_second"] for n, entry in zip(n_examples, losses, strict=True))
    assert seconds == pytest.approx(report.seconds)
    assert {entry["token_waste"] for entry in losses} == {0.0} == {report.token_waste}  # all texts have two words


def test_tensorboard_s_events_are_written_and_stay(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    fit(tiny_bert, tmp_path, report_to=("tensorboard",))
    (file,) = (tmp_path / "runs").glob("events.out.tfevents.*")
    written = file.read_bytes()
    for name in ("loss", "grad_norm", "examples_per_second", "token_waste"):
        assert f"train/{name}".encode() in written
    assert b"eval/nDCG" in written  # its writer does without the @


def test_the_environment_may_say_where_its_events_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "elsewhere"))
    (tracker,) = open_trackers(["tensorboard"], tmp_path)
    assert isinstance(tracker, TensorBoardCallback)
    assert tracker.logging_dir == str(tmp_path / "elsewhere")


@pytest.mark.parametrize("report_to", [(), "none"])
def test_nobody_is_told_unless_asked(
    tiny_bert: DenseEncoder, tmp_path: Path, recorder: list[Recorder], report_to: object
) -> None:
    fit(tiny_bert, tmp_path, report_to=report_to)
    assert not recorder
    assert not (tmp_path / "runs").exists()


def test_an_unknown_tracker_and_a_missing_package_are_found_before_step_1(
    tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"--report-to tensorbord: not known; known: azure_ml, .*tensorboard"):
        fit(tiny_bert, tmp_path, report_to="tensorboard,tensorbord")
    monkeypatch.setattr("bessemer.training.trackers.get_available_reporting_integrations", lambda: ["tensorboard"])
    with pytest.raises(ConfigError, match=r"--report-to comet_ml: .* not installed; pip install comet-ml"):
        fit(tiny_bert, tmp_path, report_to=["comet_ml"])
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_URL", raising=False)
    with pytest.raises(ConfigError, match=r"--report-to kubeflow: .* requires KUBEFLOW_TRAINER_SERVER_URL"):
        fit(tiny_bert, tmp_path, report_to=["kubeflow"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("logging_steps", "steps"), [(None, range(1, 7)), (4, (3, 4, 6)), (0.5, (3, 6))])
def test_logging_steps_is_a_count_or_a_share(
    tiny_static: DenseEncoder, tmp_path: Path, logging_steps: float | None, steps: tuple[int, ...]
) -> None:
    report = fit(tiny_static, tmp_path, logging_steps=logging_steps)
    assert [point["step"] for point in report.loss_curve] == list(steps)


def test_lines_of_progress_fit_80_columns(
    tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, logger="bessemer"):
        fit(tiny_bert, tmp_path)
    lines = [message for message in caplog.messages if "left" in message]
    assert len(lines) == 6
    assert lines[0].startswith("training: step 1 of 6, at most ")
    for line in lines[1:]:  # after the first log
        assert line.endswith(" ex/s, 0% padding")
        assert "left, loss " in line
        assert len(line) < 80


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def terminal() -> Iterator[Terminal]:
    """stderr of a command line: our log goes there, and so does the bar."""
    stream, logger = Terminal(), logging.getLogger("bessemer")
    handler = logging.StreamHandler(stream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(logger, "handlers", [handler])
        level = logger.level
        logger.setLevel(logging.INFO)
        yield stream
        logger.setLevel(level)
        assert logger.handlers == [handler]


def test_lines_of_the_log_stand_above_the_bar(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    with terminal() as stream:
        fit(tiny_bert, tmp_path)
    lines = [line.rsplit("\r", 1)[-1] for line in stream.getvalue().split("\n")]
    assert len([line for line in lines if line.startswith("training: step ") and "dev nDCG@10" in line]) == 2
    (bar,) = [line for line in lines if line.startswith("training: 100%")]
    assert " 6/6 [" in bar
    assert ", loss " in bar
    assert bar.endswith(" ex/s, 0% padding]")
    assert len(bar) < 80


def test_the_bar_ends_with_an_error(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    with terminal() as stream, pytest.raises(BessemerError, match="is nan"):
        fit(tiny_bert, tmp_path, learning_rate=1e30, warmup_steps=0)
    assert stream.getvalue().endswith("\n")  # what is printed of it begins a line
