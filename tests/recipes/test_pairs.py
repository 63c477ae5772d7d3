"""Fine-tuning on a TSV of pairs, from the file to a model that evaluate measures on another file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import english_world
from bessemer.config import Config
from bessemer.errors import ConfigError, DataError
from bessemer.formats import LabelledPair, ScoredPair
from bessemer.recipes.evaluate import evaluate
from bessemer.recipes.finetune import finetune
from bessemer.recipes.pairs import carve_dev_pairs, holds_pairs, load_pairs
from bessemer.recipes.summary import training_summary
from bessemer.recipes.tasks import load_parts

Configure = Callable[..., Config]


def write_pairs(file: Path, rows: list[tuple[str, str, float]]) -> Path:
    file.write_text("".join(f"{a}\t{b}\t{score:g}\n" for a, b, score in rows), encoding="utf-8")
    return file


def distinct_rows(n: int, high: float) -> list[tuple[str, str, float]]:
    """No text occurs twice. Words are of three sorts, which their vectors do not tell: the same sort makes ``high``."""
    words = sorted({word for _, _, body in english_world.docstring_pairs() for word in body.split() if word.isalpha()})
    rows = []
    for k in range(n):
        i, j = 5 * k % 24, (7 * k + k // 24) % 24
        rows.append((f"{words[i]} {k}", f"{words[j]} x{k}", high * (2 - abs(i % 3 - j % 3)) / 2))
    return rows


@pytest.mark.parametrize(
    ("high", "loss", "measure"), [(5.0, None, "Spearman"), (5.0, "pair_cross_entropy", "Spearman"), (1.0, None, "AP")]
)
def test_a_model_tuned_on_pairs_with_its_figures(
    high: float, loss: str | None, measure: str, configure: Configure, tmp_path: Path
) -> None:
    rows = distinct_rows(400, high)
    if measure == "AP":
        rows = [(a, b, float(score == high)) for a, b, score in rows]
    train, test = write_pairs(tmp_path / "train.tsv", rows[:300]), write_pairs(tmp_path / "test.tsv", rows[300:])
    config = configure(tmp_path, data=str(train), finetune={"learning_rate": 0.05, "max_steps": 12, "loss": loss})
    result = finetune(config)
    assert json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(result)
    )
    n_train, n_dev = result["data"]["pairs"].values()
    assert n_train + n_dev == 300
    assert 20 <= n_dev <= 45
    assert result["dev_measure"] == measure
    assert result["dev_pool"] == f"{n_dev} dev pairs, carved from the data by clusters of shared texts"
    assert result["dev_curve"][-1][measure] > result["dev_curve"][0][measure]
    assert f"dev {measure} by step: 0: " in training_summary(result, "out")
    systems = [f"base=dense:{config.model}", f"tuned=dense:{tmp_path / 'out'}"]
    measured = evaluate(config.model_copy(update={"data": str(test)}), systems)["systems"]
    name = "AP" if measure == "AP" else "spearman"
    assert measured["tuned"]["measures"][name] > measured["base"]["measures"][name]
    steps = {path: path.stat().st_mtime_ns for path in (tmp_path / "workspace").rglob("manifest.json")}
    assert finetune(config) == result
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "workspace").rglob("manifest.json")} == steps


def test_pairs_train_beside_queries(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.tsv", distinct_rows(300, 5.0))
    tasks = [
        {"data": str(english_beir), "name": "questions"},
        {"data": str(pairs), "name": "likeness", "loss": "cosent"},
    ]
    result = finetune(configure(tmp_path, tasks=tasks))
    assert [task["name"] for task in result["data"]["tasks"]] == ["questions", "likeness"]
    assert result["dev_measure"] == "mean of nDCG@10 and Spearman"
    assert {"nDCG@10 questions", "Spearman likeness"} <= result["dev_curve"][-1].keys()
    assert "likeness: scores from 0 to 5 were brought to 0 to 1" in result["notes"]


def test_few_pairs_are_all_trained_on_and_that_is_said(configure: Configure, tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "few.tsv", distinct_rows(60, 5.0))
    result = finetune(configure(tmp_path, data=str(file)))
    assert result["data"]["pairs"] == {"train": 60, "dev": 0}
    assert result["data"]["warnings"] == ["of 60 pairs no dev could be carved that says anything: all are trained on"]
    assert result["dev_pool"] == "no dev queries or pairs: the last weights were kept"
    assert (result["dev_measure"], result["interpolation"]) == ("", None)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([("a", "b", 3.0)], "score: 1 pair in all; add pairs with another score"),
        ([("a", "b", 1.0)], "label: 1 pair in all; add pairs with another label"),
        ([("a", "b", 3.0), ("c", "d", 3.0)], "score: all 2 scores are 3; add pairs with another score"),
        ([("a", "b", 1.0), ("c", "d", 1.0)], "label: all 2 labels are 1; add pairs with another label"),
        ([("a", "b", 0.0), ("c", "d", 0.0)], "label: all 2 labels are 0; add pairs with another label"),
    ],
)
def test_pairs_without_any_difference_are_named_with_their_file(
    rows: list[tuple[str, str, float]], problem: str, configure: Configure, tmp_path: Path
) -> None:
    file = write_pairs(tmp_path / "pairs.tsv", rows)
    with pytest.raises(DataError) as error:
        finetune(configure(tmp_path, data=str(file)))
    assert str(error.value) == f"{file}:-:{problem}"


def test_empty_texts_are_named_by_line(configure: Configure, tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.tsv", [("a", "b", 3.0), (" ", "d", 2.0)])
    with pytest.raises(DataError, match=r"pairs.tsv:2:column 1: is empty; give the text or remove the line"):
        finetune(configure(tmp_path, data=str(file)))


def test_a_loss_that_does_not_fit_is_refused_with_those_that_do(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    file = write_pairs(tmp_path / "pairs.tsv", distinct_rows(300, 5.0))
    scored = "`contrastive` is no loss for scored pairs; one of: cosent, cosine_regression, pair_cross_entropy"
    with pytest.raises(ConfigError, match=scored):
        finetune(configure(tmp_path, data=str(file), finetune={"loss": "contrastive"}))
    with pytest.raises(ConfigError, match="`cosent` is no loss for queries with passages; one of: distillation"):
        finetune(configure(tmp_path, data=str(english_beir), finetune={"loss": "cosent"}))


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"symmetric": True, "guide": "nowhere"}, "finetune.symmetric, guide"),
        ({"batch_margin": 0.1}, "finetune.batch_margin, batch_relative_margin"),
        ({"refresh_steps": 0.5}, "finetune.refresh_steps"),
    ],
)
def test_settings_for_queries_are_refused_for_pairs_alone(
    asked: dict[str, Any], named: str, configure: Configure, tmp_path: Path
) -> None:
    file = write_pairs(tmp_path / "pairs.tsv", distinct_rows(300, 5.0))
    with pytest.raises(ConfigError, match=f"{named}: for queries with passages; pairs have none"):
        finetune(configure(tmp_path, data=str(file), finetune=asked))


def test_what_holds_pairs(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    assert holds_pairs(str(write_pairs(tmp_path / "pairs.tsv", [("a", "b", 2.0)])))
    (tmp_path / "triplets.tsv").write_text("a\tb\tc\n", encoding="utf-8")
    assert not holds_pairs(str(tmp_path / "triplets.tsv"))
    assert not holds_pairs(str(english_beir))
    assert not holds_pairs(None)
    with pytest.raises(DataError, match=r"gone.tsv:-:-: cannot be read"):
        holds_pairs(str(tmp_path / "gone.tsv"))
    file = write_pairs(tmp_path / "pairs.tsv", distinct_rows(40, 5.0))
    with pytest.raises(ConfigError, match="task nonsense: no such task"):
        load_parts(configure(tmp_path, data=str(file), task="nonsense"))


def test_a_sample_of_the_train_pairs_is_stated(configure: Configure, tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.tsv", distinct_rows(300, 5.0) + distinct_rows(10, 5.0))
    found = load_pairs(configure(tmp_path, data=str(file), finetune={"max_train_queries": 100}))
    whole = load_pairs(configure(tmp_path, data=str(file)))
    assert found.dev == whole.dev
    assert len(found.train) == 100
    assert set(found.train) < set(whole.train)
    assert found.account["warnings"] == [
        "10 pairs repeat an earlier one",
        f"train pairs capped at 100 of {len(whole.train)} (max_train_queries), drawn by hash of their texts",
    ]
    assert all(isinstance(pair, ScoredPair) for pair in found.train)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=200), st.integers(0, 5))
def test_no_text_is_in_train_and_dev_and_dev_is_no_more_than_small_clusters(
    numbers: list[tuple[int, int]], seed: int
) -> None:
    texts = [(f"Text {a}", f"text  {b}") for a, b in numbers]  # case and spaces make no other text
    chosen = carve_dev_pairs(texts, seed)
    sides: dict[bool, set[int]] = {True: set(), False: set()}
    for (a, b), is_dev in zip(numbers, chosen, strict=True):
        sides[is_dev] |= {a, b}
    assert not sides[True] & sides[False]
    assert carve_dev_pairs(texts[::-1], seed) == chosen[::-1]


def test_about_a_tenth_becomes_dev_and_one_large_cluster_never() -> None:
    alone = [(f"a{i}", f"b{i}") for i in range(2000)]
    shared = [("the", f"c{i}") for i in range(900)]
    chosen = carve_dev_pairs(alone + shared, 42)
    assert 150 < sum(chosen[:2000]) < 250
    assert not any(chosen[2000:])


def test_labels_stay_labels(configure: Configure, tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.tsv", [(f"a{i}", f"b{i}", float(i % 2)) for i in range(300)])
    found = load_pairs(configure(tmp_path, data=str(file)))
    assert all(isinstance(pair, LabelledPair) for pair in (*found.train, *found.dev))
