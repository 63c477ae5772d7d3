"""`bessemer finetune --head unified` on a small collection, from the command line to a folder that loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from sentence_transformers import SentenceTransformer
from torch.nn.functional import one_hot
from typer.testing import CliRunner

from bessemer.cli import app
from bessemer.encoders.load import load_encoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.training.batches import TrainingSet
from bessemer.training.trainer import ContrastiveTrainer

QUICK = ("--model", "minilm", "--device", "cpu", "--max-steps", "2", "--per-device-train-batch-size", "8",
         "--max-length", "48", "--logging-steps", "1", "--eval-steps", "2", "--no-interpolation")  # fmt: skip


def run(*arguments: str | Path) -> Result:
    result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result  # type: ignore[no-any-return]


def test_a_plain_model_becomes_a_unified_one(english_beir: Path, tmp_path: Path) -> None:
    command = ("finetune", "--data", english_beir, "--out", tmp_path / "out", "--workspace", tmp_path / "workspace")
    done = run(*command, "--head", "unified", *QUICK, "--self-distillation", "--self-distillation-start", "1")
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    lanes = ("dense", "sparse", "multi_vector")
    parts = {f"loss_{lane}" for lane in lanes} | {"loss_ensemble"}
    distilled = {f"loss_distilled_{lane}" for lane in lanes}
    found = [set(point) - {"step", "loss"} for point in figures["loss_curve"]]
    assert found == [parts, parts | distilled]
    assert "token vectors together" in figures["dev_pool"]
    assert figures["fingerprints"]["base"] != figures["fingerprints"]["tuned"]

    texts = ["parse arguments", "a calendar of the year"]
    unified = load_encoder(str(tmp_path / "out"), device="cpu", bf16=False)
    assert isinstance(unified, UnifiedEncoder)
    tuned = figures["lane_weights"]
    assert unified.lane_weights == (tuned["dense"], tuned["sparse"], tuned["multi_vector"])
    assert tuned["n_queries"] > 0
    encoded = unified.encode_queries(texts, ("dense", "sparse", "multi_vector"))
    assert encoded.dense is not None
    assert encoded.sparse is not None
    assert encoded.sparse.nnz > 0
    assert encoded.multi_vector is not None
    plain = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(texts)
    np.testing.assert_allclose(plain, encoded.dense, atol=1e-5)


@pytest.mark.slow
def test_tasks_a_guide_and_a_refresh_together(
    english_beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step sees one task; negatives are mined anew between the two, and the guide has its say on all of them."""
    seen: list[tuple[str, int]] = []
    mined: list[int] = []
    plain_step, plain_take = ContrastiveTrainer.step_on, TrainingSet.take

    def step_on(self: Any, model: Any, task: Any, batch: Any, *arguments: Any) -> Any:
        own = one_hot(batch["positives"], batch["excluded"].shape[1]).bool()
        seen.append((task.name, int((batch["excluded"] & ~own).sum())))
        return plain_step(self, model, task, batch, *arguments)

    def take(self: Any, negatives: Any) -> None:
        mined.append(len(seen))
        plain_take(self, negatives)

    monkeypatch.setattr(ContrastiveTrainer, "step_on", step_on)
    monkeypatch.setattr(TrainingSet, "take", take)
    tasks = [{"data": str(english_beir), "name": name, "task": task} for name, task in (("a", "qa"), ("b", "tool"))]
    config = tmp_path / "tasks.json"  # JSON is YAML
    config.write_text(json.dumps({"tasks": tasks}), encoding="utf-8")
    command = ("finetune", "--config", config, "--workspace", tmp_path / "w", "--head", "unified", *QUICK)
    command = (*command, "--task-sampling", "round_robin")
    done = run(
        *command, "--out", tmp_path / "out", "--refresh-steps", "1", "--guide", "minilm", "--batch-margin", "0.3"
    )
    assert done.exit_code == 0, done.output
    assert [name for name, _ in seen] == ["a", "b"]
    assert mined == [0, 0, 1, 1]  # what the data sets begin with, then both again after the first step
    assert all(told > 0 for _, told in seen)
    figures = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert [task["name"] for task in figures["data"]["tasks"]] == ["a", "b"]
    assert {"loss_dense", "loss_sparse", "loss_multi_vector", "loss_ensemble"} <= set(figures["loss_curve"][0])
    assert {"nDCG@10 a", "nDCG@10 b"} <= set(figures["dev_curve"][-1])
    assert isinstance(load_encoder(str(tmp_path / "out"), device="cpu", bf16=False), UnifiedEncoder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--freeze-encoder",), "leaves nothing to train"),
        (("--head", "unified", "--matryoshka-dims", "64"), "matryoshka_dims"),
        (("--head", "all"), "'dense', 'sparse', 'multi'"),
    ],
)
def test_options_that_do_not_fit(arguments: tuple[str, ...], message: str, english_beir: Path, tmp_path: Path) -> None:
    refused = run("finetune", "--data", english_beir, "--out", tmp_path / "out", *arguments)
    assert refused.exit_code == 2
    assert message in refused.output


def test_adapt_and_static_models_have_no_heads(english_beir: Path, english_model: Path, tmp_path: Path) -> None:
    given = ("--data", english_beir, "--out", tmp_path / "out", "--workspace", tmp_path / "w", "--head", "unified")
    refused = run("adapt", *given)
    assert refused.exit_code == 2
    assert "use bessemer finetune" in refused.output
    refused = run("finetune", *given, "--model", english_model)
    assert refused.exit_code == 2
    assert "static" in refused.output
