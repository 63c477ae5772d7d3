"""What training asks of the machine: a batch size by itself, folders that can be written to, room for checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_world

from bessemer.config import FinetuneConfig, TaskConfig, load_config
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import ConfigError
from bessemer.training.batches import TrainingData
from bessemer.training.finetune import Tuned, finetune
from bessemer.training.hardware import auto_batch_size
from bessemer.training.refit import Chosen, refit

DATA = [TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives())]

OWN_CODE = """
from transformers import BertConfig, BertModel


class OwnConfig(BertConfig):
    model_type = "own-bert"


class OwnModel(BertModel):
    config_class = OwnConfig
"""


def fit(encoder: DenseEncoder, folder: Path, **settings: object) -> Tuned:
    config = FinetuneConfig(**{"per_device_train_batch_size": 8, "max_steps": 6, "eval_steps": 1, **settings})
    return finetune(DATA, encoder, None, config, 42, folder)


@pytest.mark.parametrize(
    ("device", "n_examples", "tokens_per_example", "expected"),
    [
        ("cpu", 100_000, 500.0, 64),  # 32,768 tokens of graphs are 65 examples
        ("cpu", 100_000, 60.0, 512),
        ("cpu", 1_600, 60.0, 64),  # 1,600 / 64 are 25 steps
        ("cpu", 1_599, 60.0, 32),
        ("cpu", 10, 60.0, 16),
        ("cpu", 100_000, 5000.0, 16),
        ("cuda", 100_000, 500.0, 256),  # 131,072 tokens
        ("cuda", 100_000, 60.0, 1024),
        ("cuda", 1_600, 60.0, 64),
    ],
)
def test_auto_leaves_steps_enough_and_graphs_whole(
    tiny_bert: DenseEncoder, device: str, n_examples: int, tokens_per_example: float, expected: int
) -> None:
    tiny_bert.device = device
    assert auto_batch_size(tiny_bert, n_examples, tokens_per_example) == expected


def test_static_models_have_no_graph_to_fit(tiny_static: DenseEncoder) -> None:
    assert auto_batch_size(tiny_static, 100_000, 5000.0) == 1024


def test_auto_is_told_in_log_and_report(
    tiny_bert: DenseEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="bessemer"):
        report = fit(tiny_bert, tmp_path, per_device_train_batch_size="auto", n_negatives=2).report
    # [CLS] w w [SEP]: four tokens for a query, and for each of three passages
    assert "training: batches of 16 (auto: 20 examples, of 16 tokens each)" in caplog.text
    assert (report.batch_size, report.steps, report.examples) == (16, 6, 60)  # two batches of ten an epoch


def test_the_last_fit_takes_the_size_that_was_chosen(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    config = FinetuneConfig(per_device_train_batch_size="auto", eval_steps=1)
    tuned = refit(DATA, tiny_bert, Chosen(3 / 20, 10, 1.0), config, 42, None, tmp_path)
    assert (tuned.report.batch_size, tuned.report.steps, tuned.report.examples) == (10, 3, 30)


def test_the_last_fit_reads_back_a_model_with_code_of_its_own(tiny_bert_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(tiny_bert_model, folder)
    (folder / "modeling_own.py").write_text(OWN_CODE, encoding="utf-8")
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    described |= {"auto_map": own, "architectures": ["OwnModel"], "model_type": "own-bert"}
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(ConfigError, match="custom code"):
        load_encoder(str(folder), device="cpu")
    encoder = load_encoder(str(folder), device="cpu", bf16=False, trust_remote_code="main")
    assert type(encoder.model[0].model).__name__ == "OwnModel"
    config = FinetuneConfig(per_device_train_batch_size=8, eval_steps=1)
    tuned = refit(DATA, encoder, Chosen(1 / 20, 8, 0.5), config, 42, "main", tmp_path / "run")
    assert load_encoder(str(tuned.model), device="cpu", trust_remote_code="main").dimension == 16


@pytest.mark.parametrize("given", ["auto", "64", 64])
def test_a_number_or_auto(given: object) -> None:
    expected = "auto" if given == "auto" else 64
    config = load_config(None, {"finetune.per_device_train_batch_size": given})
    assert config.finetune.per_device_train_batch_size == expected
    assert TaskConfig(data="d", per_device_train_batch_size=given).per_device_train_batch_size == expected


@pytest.mark.parametrize("given", ["large", "1", 1, 0, -64, 64.5, True, ""])
def test_no_other_batch_size(given: object) -> None:
    with pytest.raises(ConfigError, match=r"--per-device-train-batch-size: .*give auto, or a whole number from 2 up"):
        load_config(None, {"finetune.per_device_train_batch_size": given})


def test_a_folder_that_cannot_be_written_to_is_found_before_step_1(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file is in the way")
    own = tiny_bert.copy_weights()
    with pytest.raises(ConfigError, match=r"checkpoints: checkpoints cannot be written \(File exists\); make it"):
        fit(tiny_bert, tmp_path)
    assert all((own[name] == weight).all() for name, weight in tiny_bert.copy_weights().items())
    with pytest.raises(ConfigError, match=r"checkpoints cannot be written \(Not a directory\)"):
        fit(tiny_bert, tmp_path / "checkpoints" / "below")


@pytest.mark.parametrize(("limit", "kept"), [(1, {6}), (2, {5, 6}), (4, {3, 4, 5, 6})])
def test_as_many_checkpoints_are_kept_as_asked(
    tiny_static: DenseEncoder, tmp_path: Path, limit: int, kept: set[int]
) -> None:
    fit(tiny_static, tmp_path, save_total_limit=limit)
    assert {int(path.name.split("-")[1]) for path in (tmp_path / "checkpoints").glob("checkpoint-*")} == kept
