"""`bessemer finetune` of SPLADE and ColBERT folders, from the command line to folders that open in their library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from sentence_transformers import MultiVectorEncoder, SparseEncoder
from typer.testing import CliRunner

from bessemer.cli import app
from bessemer.config import Config, FinetuneConfig, NegativesConfig, load_config
from bessemer.encoders.kinds import kind_of
from bessemer.errors import ConfigError
from bessemer.recipes.init import init
from bessemer.recipes.lane_training import by_words, settled_for_kind
from lane_models import write_multi_vector, write_sparse, write_unified

QUICK = ("--device", "cpu", "--max-steps", "3", "--per-device-train-batch-size", "8", "--max-length", "16",
         "--logging-steps", "1", "--eval-steps", "2", "--no-interpolation")  # fmt: skip


@pytest.fixture(scope="module")
def splade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sparse(tmp_path_factory.mktemp("splade"))


@pytest.fixture(scope="module")
def colbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_multi_vector(tmp_path_factory.mktemp("colbert"))


def run(*arguments: str | Path) -> Result:
    result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result  # type: ignore[no-any-return]


def tune(model: Path, data: Path, folder: Path, *more: str) -> dict[str, Any]:
    given = ("--data", data, "--model", model, "--out", folder / "out", "--workspace", folder / "workspace")
    done = run("finetune", *given, *QUICK, *more)
    assert done.exit_code == 0, done.output
    figures: dict[str, Any] = json.loads((folder / "out" / "training.json").read_text(encoding="utf-8"))
    return figures


def test_splade(splade: Path, english_beir: Path, tmp_path: Path) -> None:
    figures = tune(splade, english_beir, tmp_path, "--head", "sparse")
    parts = {"loss_sparse", "loss_flops_query", "loss_flops_passage"}
    assert all(set(point) - {"step", "loss"} == parts for point in figures["loss_curve"])
    assert figures["loss_curve"][0]["loss_flops_query"] == 0
    assert figures["loss_curve"][1]["loss_flops_query"] > 0
    assert all(point["active_dimensions_passage"] > 0 for point in figures["dev_curve"])
    assert figures["dev_pool"].endswith("ranked by sparse weights")
    assert "hard negatives mined by words (bm25)" in figures["data"]["warnings"][-1]
    assert figures["fingerprints"]["base"] != figures["fingerprints"]["tuned"]
    assert kind_of(str(tmp_path / "out")) == "sparse"
    theirs = SparseEncoder(str(tmp_path / "out"), device="cpu")
    assert theirs.encode_query(["parse arguments"]).to_dense().count_nonzero() > 0
    done = run("evaluate", "--data", english_beir, "--system", "bm25=bm25", "--system", f"s=sparse:{tmp_path / 'out'}",
               "--json", tmp_path / "e.json", "--workspace", tmp_path / "w", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output


def test_colbert_is_trained_unasked(colbert: Path, english_beir: Path, tmp_path: Path) -> None:
    figures = tune(colbert, english_beir, tmp_path, "--n-negatives", "0")
    assert all(set(point) - {"step", "loss"} == {"loss_multi_vector"} for point in figures["loss_curve"])
    assert figures["dev_pool"].endswith("ranked by token vectors")
    assert not any("mined by words" in warning for warning in figures["data"]["warnings"])
    assert kind_of(str(tmp_path / "out")) == "multi"
    before, after = (MultiVectorEncoder(str(folder), device="cpu") for folder in (colbert, tmp_path / "out"))
    one, other = (model.encode_query(["parse arguments"])[0] for model in (before, after))
    assert one.shape == other.shape
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("splade", ("--head", "unified"), "give --head sparse"),
        ("splade", ("--head", "dense"), "give --head sparse"),
        ("colbert", ("--head", "sparse"), "give --head multi"),
        ("colbert", ("--head", "multi", "--freeze-encoder"), "no head beside the encoder"),
        ("colbert", ("--matryoshka-dims", "8"), "matryoshka_dims"),
        ("splade", ("--strategy", "simans"), "bessemer negatives"),
        ("splade", ("--refresh-steps", "2"), "mined by dense vectors"),
        ("minilm", ("--head", "multi", "--flops-query", "0.1"), "give head sparse"),
    ],
)
def test_what_does_not_fit_is_named(
    model: str, arguments: tuple[str, ...], message: str, english_beir: Path, tmp_path: Path,
    splade: Path, colbert: Path,
) -> None:  # fmt: skip
    folder = {"splade": splade, "colbert": colbert}.get(model, model)
    given = ("--data", english_beir, "--model", folder, "--out", tmp_path / "out", "--workspace", tmp_path / "w")
    refused = run("finetune", *given, "--device", "cpu", *arguments)
    assert refused.exit_code == 2, refused.output
    assert message in " ".join(refused.output.split())


def test_defaults_by_kind(splade: Path, colbert: Path, tmp_path: Path) -> None:
    def settled(model: Path | str, **given: Any) -> FinetuneConfig:
        return settled_for_kind(Config(model=str(model), finetune=FinetuneConfig(**given))).finetune

    found = settled(splade)
    assert (found.head, found.flops_query, found.flops_passage) == ("sparse", 5e-5, 3e-5)
    found = settled(splade, temperature=0.05, head="sparse", flops_query=0.0)
    assert (found.temperature, found.flops_query, found.flops_passage) == (0.05, 0.0, 3e-5)
    found = settled(colbert, lora_rank=4)
    assert (found.head, found.flops_query, found.lora_rank) == ("multi", None, 4)
    for model in ("minilm", write_unified(tmp_path)):  # those are as asked for, and by default dense
        assert settled(model) == FinetuneConfig()
        assert settled(model, head="sparse") == FinetuneConfig(head="sparse")


def test_the_file_of_init_changes_no_defaults(splade: Path, colbert: Path, tmp_path: Path) -> None:
    written = init(str(tmp_path))
    for model in (splade, colbert):
        from_file, plain = (settled_for_kind(load_config(path, {"model": str(model)})) for path in (written, None))
        assert from_file.finetune == plain.finetune
    heads = load_config(written, {"model": str(splade), "finetune.head": "sparse"})
    assert settled_for_kind(heads).finetune.flops_query == 5e-5


def test_strategies_of_words() -> None:
    found = by_words(NegativesConfig())
    assert (found.strategy, found.candidates, found.relative_margin) == ("bm25", "bm25", 0.0)
    assert by_words(NegativesConfig(strategy="random")).strategy == "random"
    for settings in ({"strategy": "mixed"}, {"absolute_margin": 0.1}):
        with pytest.raises(ConfigError, match="goes by dense vectors"):
            by_words(NegativesConfig(**settings))
