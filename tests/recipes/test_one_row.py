"""A data set of one training row: it trains on what there is to learn, and says what there is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer

import english_world
from bessemer.config import Config
from bessemer.errors import ConfigError, DataError
from bessemer.recipes.adapt import adapt
from bessemer.recipes.finetune import finetune

Configure = Callable[..., Config]
(_, SUMMARY, BODY), (_, _, OTHER), *_ = english_world.docstring_pairs()


def one_row(folder: Path, negatives: list[str]) -> str:
    file = folder / "row.jsonl"
    english_world.write_jsonl(file, [{"query": SUMMARY, "pos": [BODY], "neg": negatives}])
    return str(file)


def difference(model: str) -> float:
    """How much nearer to the query the positive is than the negative, as sentence-transformers has it."""
    encoder = SentenceTransformer(model, device="cpu")
    positive, negative = encoder.similarity(encoder.encode_query([SUMMARY]), encoder.encode_document([BODY, OTHER]))[0]
    return float(positive - negative)


@pytest.mark.parametrize("settings", [{}, {"per_device_train_batch_size": "auto"}, {"refresh_steps": 2}])
def test_one_row_with_a_negative_learns(settings: dict[str, Any], configure: Configure, tmp_path: Path) -> None:
    given = {"learning_rate": 0.05, "max_steps": 4, "warmup_steps": 0, **settings}
    config = configure(tmp_path, data=one_row(tmp_path, [OTHER]), finetune=given)
    result = finetune(config)
    assert (result["steps"], result["examples"], result["batch_size"]) == (4, 4, 1)
    before, after = difference(config.model), difference(config.out)
    first = result["loss_curve"][0]["loss"]
    assert first == pytest.approx(math.log1p(math.exp(-before / 0.05)), rel=1e-4)
    assert result["final_loss"] < first / 2
    assert after > before + 0.05
    assert result["notes"] == ["batch size 1: there are no more examples"]
    replaced = (
        ["negatives given for 1 queries serve until refresh_steps mines others"] if "refresh_steps" in settings else []
    )
    assert result["data"]["warnings"] == ["1 queries are too few to split: all in train", *replaced]
    assert result["dev_pool"] == "no dev queries or pairs: the last weights were kept"


def test_one_row_without_a_negative_has_nothing_to_learn_and_says_why(configure: Configure, tmp_path: Path) -> None:
    result = finetune(configure(tmp_path, data=one_row(tmp_path, [])))
    assert {point["loss"] for point in result["loss_curve"]} == {0.0}
    assert "1 of 1 examples have no hard negative" in result["notes"]
    assert "1 of 1 queries have fewer than 4 negatives left" in result["data"]["warnings"]


def test_one_row_that_a_loss_cannot_use_is_refused(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`triplet` needs hard negatives; .* or bring some"):
        finetune(configure(tmp_path, data=one_row(tmp_path, []), finetune={"loss": "triplet"}))


def test_one_row_cannot_be_judged(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few rows for a test split; give more rows, or a BEIR folder"):
        adapt(configure(tmp_path, data=one_row(tmp_path, [OTHER])))
    assert not (tmp_path / "out" / "report.json").exists()
