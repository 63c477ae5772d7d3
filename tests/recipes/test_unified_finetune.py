"""`bessemer finetune --head unified` on a small collection, from the command line to a folder that loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from bessemer.cli import app
from bessemer.encoders.load import load_encoder
from bessemer.encoders.unified import UnifiedEncoder

QUICK = ("--model", "minilm", "--device", "cpu", "--max-steps", "2", "--per-device-train-batch-size", "8",
         "--max-length", "48", "--logging-steps", "1", "--eval-steps", "2", "--self-distillation-start", "1",
         "--no-interpolation")  # fmt: skip


def run(*arguments: str | Path) -> Result:
    result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result  # type: ignore[no-any-return]


def test_a_plain_model_becomes_a_unified_one(english_beir: Path, tmp_path: Path) -> None:
    command = ("finetune", "--data", english_beir, "--out", tmp_path / "out", "--workspace", tmp_path / "workspace")
    done = run(*command, "--head", "unified", *QUICK)
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
