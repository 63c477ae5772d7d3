"""`bessemer finetune` under SIGKILL between two checkpoints: the same command ends as if it had been left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bessemer.config import Config
from bessemer.recipes.finetune import finetune
from bessemer.training.trainer import ContrastiveTrainer

Configure = Callable[..., Config]
SETTINGS = {"learning_rate": 0.05, "max_steps": 8, "eval_steps": 3, "refresh_steps": 2, "logging_steps": 1}
SETTINGS |= {"per_device_train_batch_size": 8, "early_stopping_patience": 9}
KILLED_IN_STEP_5 = """
import os, signal
from bessemer.cli import main
from bessemer.training.trainer import ContrastiveTrainer

whole = ContrastiveTrainer.training_step

def training_step(self, *arguments, **named):
    if self.state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, *arguments, **named)

ContrastiveTrainer.training_step = training_step
main()
"""
CLOCK = ("seconds", "examples_per_second", "peak_memory_bytes", "token_waste")
"""What depends on the machine, or on where the run was broken."""


def less_the_clock(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in CLOCK}


@pytest.mark.slow
def test_killed_between_checkpoints(
    configure: Configure, english_beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = configure(tmp_path / "whole", data=str(english_beir), finetune=SETTINGS)
    expected = finetune(whole)
    broken = configure(tmp_path / "broken", data=str(english_beir), finetune=SETTINGS)
    file = tmp_path / "bessemer.json"  # JSON is YAML
    file.write_text(json.dumps(broken.model_dump(mode="json", exclude_unset=True)), encoding="utf-8")
    command = [sys.executable, "-c", KILLED_IN_STEP_5, "finetune", "--config", str(file)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (step,) = Path(broken.workspace, "steps").glob("model-*")
    assert {path.name for path in (step / "work" / "checkpoints").glob("checkpoint-*")} == {"checkpoint-3"}
    assert not (step / "manifest.json").exists()
    assert not Path(broken.out, "training.json").exists()

    (mined,) = Path(broken.workspace, "steps").glob("negatives-*/manifest.json")
    stamp, steps, plain = mined.stat().st_mtime_ns, [], ContrastiveTrainer.training_step

    def training_step(self: ContrastiveTrainer, *arguments: Any, **named: Any) -> torch.Tensor:
        steps.append(self.state.global_step + 1)
        return plain(self, *arguments, **named)

    monkeypatch.setattr(ContrastiveTrainer, "training_step", training_step)
    result = finetune(broken)
    assert steps == [4, 5, 6, 7, 8]  # it did not begin anew
    assert mined.stat().st_mtime_ns == stamp
    assert less_the_clock(result) == less_the_clock(expected)
    assert [point["step"] for point in result["loss_curve"]] == list(range(1, 9))
    one, two = (load_file(Path(config.out, "model.safetensors")) for config in (whole, broken))
    assert one.keys() == two.keys()
    assert all(torch.equal(weight, two[name]) for name, weight in one.items())
