"""`bessemer finetune` under the real torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from bessemer.config import Config
from bessemer.recipes.finetune import finetune

Torchrun = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def torchrun(tmp_path: Path) -> Torchrun:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        return subprocess.run(
            [*launcher, "-m", "bessemer", *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path,
            timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    return run


def test_two_processes_make_the_model_of_one_with_twice_the_batch(
    torchrun: Torchrun, configure: Callable[..., Config], english_beir: Path, english_model: Path, tmp_path: Path
) -> None:
    flags = ["--learning-rate", "0.05", "--max-steps", "8", "--device", "cpu"]
    command = ["finetune", "--data", english_beir, "--model", english_model, "--out", "two", "--workspace", "shared"]
    done = torchrun(*command, *flags, "--per-device-train-batch-size", "8", "--json", "answer.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("96 examples in 8 steps") == 1  # one process speaks
    assert done.stderr.count("dev nDCG@10") == 4

    config = configure(tmp_path, data=str(english_beir), workspace=str(tmp_path / "shared"))
    settings = config.finetune.model_copy(update={"per_device_train_batch_size": 16})
    one = finetune(config.model_copy(update={"finetune": settings}))
    two = json.loads((tmp_path / "two" / "training.json").read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "answer.json").read_text(encoding="utf-8")) == two
    assert (one["n_processes"], two["n_processes"]) == (1, 2)
    assert two["dev_curve"] == one["dev_curve"]
    for key in ("examples", "steps", "epochs", "best_step", "data", "notes"):
        assert two[key] == one[key], key
    (first,) = load_file(tmp_path / "out" / "model.safetensors").values()
    (second,) = load_file(tmp_path / "two" / "model.safetensors").values()
    (base,) = load_file(english_model / "model.safetensors").values()
    assert (first - base).norm() > 0.01 * base.norm()
    assert (second - first).norm() < 1e-5 * (first - base).norm()


def test_what_one_process_does_is_refused(torchrun: Torchrun, english_beir: Path) -> None:
    done = torchrun("adapt", "--data", english_beir, "--out", "out")
    assert done.returncode != 0
    assert "error: adapt runs in one process; under torchrun run finetune" in done.stderr


def test_bad_input_is_told_once_and_nobody_hangs(torchrun: Torchrun, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"query": "a", "pos": "text"}\n', encoding="utf-8")
    done = torchrun("finetune", "--data", "rows.jsonl", "--device", "cpu")
    assert done.returncode != 0
    assert done.stderr.count("rows.jsonl:1:pos") == 1
