"""What configs/ and the tables of docs/ promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bessemer.config import Config, FinetuneConfig, NegativesConfig, load_config
from bessemer.negatives.strategies import parts
from bessemer.training.losses import FOR_TEACHERS, LOSSES, Calibration, batch_loss, pair_loss, teacher_loss
from bessemer.training.losses.of_pairs import FOR_LABELS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_of_the_cookbook_is_a_configuration(file: Path) -> None:
    config = load_config(file)
    assert config != Config()
    assert _loss(config.finetune)
    assert parts(config.negatives)


def _loss(config: FinetuneConfig) -> object:
    if config.loss in FOR_LABELS:
        return pair_loss(config, 384, normalised=True, labelled=False)
    if config.loss in FOR_TEACHERS:
        return teacher_loss(config, Calibration(), 384, normalised=True)
    return batch_loss(config, 384, normalised=True)


def test_every_loss_stands_on_its_page() -> None:
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == {*LOSSES, *FOR_TEACHERS, *FOR_LABELS}


def test_flags_from_flagembedding_exist_under_the_names_of_the_table() -> None:
    named = set(re.findall(r"`--([a-z-]+)[ `]", (ROOT / "docs" / "from-flagembedding.md").read_text(encoding="utf-8")))
    fields = {*Config.model_fields, *NegativesConfig.model_fields, *FinetuneConfig.model_fields}
    known = {name.replace("_", "-") for name in fields}
    assert {"n-negatives", "mini-batch-tokens", "range-min", "temperature"} <= named
    theirs = {"fp16", "deepspeed"}
    assert named - known - theirs <= {"data", "out"}
