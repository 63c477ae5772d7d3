from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

import english_world
from bessemer.config import Config
from bessemer.encoders.load import load_encoder
from bessemer.encoders.two_towers import join_towers
from bessemer.errors import ConfigError
from bessemer.formats import load_collection
from bessemer.recipes.finetune import finetune
from bessemer.recipes.negatives import negatives
from bessemer.recipes.summary import negatives_summary

Configure = Callable[..., Config]


def test_rows_with_ids_and_scores_that_read_back(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    out = tmp_path / "mined.jsonl"
    report = negatives(configure(tmp_path, data=str(english_beir)), "train", str(out))
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == report["rows"] == report["n_queries"] == 24
    bodies = {f"p{i}": body for i, (_, _, body) in enumerate(english_world.docstring_pairs())}
    for place, row in enumerate(rows):
        assert (row["query_id"], row["pos_ids"]) == (f"q{place}", [f"p{place}"])
        assert f"p{place}" not in row["neg_ids"]
        assert len(row["neg"]) == len(row["neg_ids"]) == len(row["neg_scores"])
        assert all(bodies[i] in text for i, text in zip(row["neg_ids"], row["neg"], strict=True))
    assert sum(len(row["neg_ids"]) for row in rows) == pytest.approx(24 * report["mean_per_query"])
    assert len(load_collection(out).negatives) == sum(bool(row["neg_ids"]) for row in rows)


def test_an_unwritable_file_is_found_before_the_mining(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    config = configure(tmp_path, data=str(english_beir))
    with pytest.raises(ConfigError, match=r"--out .*file: is a file; give a folder"):
        negatives(config, "train", str(tmp_path / "file" / "x.jsonl"))
    with pytest.raises(ConfigError, match="is a folder; give a file"):
        negatives(config, "train", str(tmp_path))
    assert not Path(config.workspace).exists()


@pytest.mark.parametrize("strategy", ["random", "top_k", "simans", "same_document", "bm25", "mixed"])
def test_every_strategy_mines_and_trains(
    strategy: str, configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    config = configure(
        tmp_path, data=str(english_beir), negatives={"strategy": strategy, "n_negatives": 3, "relative_margin": 0.0}
    )
    out = tmp_path / "mined.jsonl"
    report = negatives(config, "train", str(out))
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert report["strategy"] == strategy
    assert max(len(row["neg_ids"]) for row in rows) == (3 if strategy != "same_document" else len(rows[0]["neg_ids"]))
    assert all(len(set(row["neg_ids"])) == len(row["neg_ids"]) for row in rows)
    assert not any(set(row["pos_ids"]) & set(row["neg_ids"]) for row in rows)
    assert report["mean_per_query"] * len(rows) == sum(len(row["neg_ids"]) for row in rows)
    told = negatives_summary(report).splitlines()[0]
    assert ("3.00 negatives each, drawn from " in told) == (strategy == "simans")
    training = finetune(config)
    assert training["negatives"]["mean_per_query"] == report["mean_per_query"]
    assert 1 <= training["steps"] <= 8  # it may stop early


def test_the_gradient_report_beside_the_negatives(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir), negatives={"n_negatives": 2})
    out = tmp_path / "mined.jsonl"
    result = negatives(config, "train", str(out), gradients=True)
    rows = {row["strategy"]: row for row in result["gradients"]}
    assert {"random", "top_k, no margin", "top_k", "simans", "bm25"} <= rows.keys()
    assert len({row["n_examples"] for row in rows.values()}) == 1
    assert 0 < rows["random"]["n_examples"] <= 24
    assert rows["random"]["weight"] < rows["top_k, no margin"]["weight"]  # a harder negative weighs more
    assert rows["top_k"]["suspected"] == 0  # its margin saw to that
    assert all(row["norm"] > 0 and row["variance"] >= 0 for row in rows.values())
    plot = Path(result["gradients_plot"])
    assert plot == tmp_path / "mined.gradients.svg"
    tree = ElementTree.parse(plot)
    assert {"random", "simans"} <= {element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert all(len(line) <= 80 for line in negatives_summary(result).splitlines() if "/" not in line)
    assert "were not compared" in negatives_summary({**result, "gradients": []})


def test_a_model_of_two_towers_is_refused_before_the_mining(
    configure: Configure, english_beir: Path, english_model: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(str(english_model), device="cpu")
    join_towers(encoder, encoder.model).save(tmp_path / "towers")
    config = configure(tmp_path, data=str(english_beir), model=str(tmp_path / "towers"))
    with pytest.raises(ConfigError, match="tower for queries"):
        negatives(config, "train", str(tmp_path / "x.jsonl"), gradients=True)
    assert not (tmp_path / "x.jsonl").exists()


def test_gradients_are_those_of_the_temperature_that_training_would_take(
    configure: Configure, english_beir: Path, english_model: Path, tmp_path: Path
) -> None:
    """1 for a model that compares by dot product."""
    model = load_encoder(str(english_model), device="cpu").model
    model.similarity_fn_name = "dot"
    model.save(str(tmp_path / "dot"))
    for name, expected in ((str(english_model), "0.05"), (str(tmp_path / "dot"), "1")):
        config = configure(tmp_path, data=str(english_beir), model=name, negatives={"n_negatives": 2})
        result = negatives(config, "train", str(tmp_path / "mined.jsonl"), gradients=True)
        texts = {element.text or "" for element in ElementTree.parse(result["gradients_plot"]).iter()}
        assert any(text.endswith(f", temperature {expected}") for text in texts), texts
