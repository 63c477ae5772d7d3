from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import english_world
from bessemer.config import Config
from bessemer.errors import ConfigError, DataError
from bessemer.formats.trec import read_run
from bessemer.recipes.compare import compare
from bessemer.recipes.evaluate import evaluate
from bessemer.recipes.output import write_json
from bessemer.recipes.summary import WIDTH, evaluation_summary

Configure = Callable[..., Config]


@pytest.fixture
def config(configure: Configure, english_beir: Path, tmp_path: Path) -> Config:
    return configure(tmp_path, data=str(english_beir))


def test_systems_in_one_table_with_runs(adapted: Any, config: Config, tmp_path: Path) -> None:
    """The same numbers as in the report of `adapt`: the two commands measure alike."""
    tuned = f"tuned=dense:{adapted.out / 'model'}"
    systems = ["bm25=bm25", "words=tfidf", f"base=dense:{config.model}", tuned, "both=hybrid:bm25+tuned"]
    result = evaluate(config, systems, runs_folder=str(tmp_path / "runs"))
    assert (result["data"], result["split"], result["n_queries"]) == (config.data, "test", 16)
    assert list(result["systems"]) == ["bm25", "words", "base", "tuned", "both"]
    reported = adapted.report["evaluation"]["systems"]
    for name, same in (("bm25", "bm25"), ("base", "base"), ("tuned", "tuned"), ("both", "hybrid-tuned")):
        assert result["systems"][name]["measures"] == pytest.approx(reported[same]["measures"], abs=1e-9)
    first = result["comparisons"][0]
    assert (first["baseline"], first["treatment"], first["measure"]) == ("bm25", "both", "nDCG@10")
    assert result["verdict"]["decision"] in ("ship", "keep base", "not enough evidence")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "base.trec", "bm25.trec", "both.trec", "tuned.trec", "words.trec",
    ]  # fmt: skip
    assert set(read_run(tmp_path / "runs" / "bm25.trec").results) == {f"q{i}" for i in english_world.SPLITS["test"]}
    assert max(map(len, evaluation_summary(result).splitlines())) <= WIDTH


def test_cosine_and_dot(config: Config) -> None:
    """The model normalises, so the two are one; each is its own system."""
    result = evaluate(config, ["bm25=bm25", f"m=dense:{config.model}"], similarity="cosine,dot")
    assert list(result["systems"]) == ["bm25", "m-cosine", "m-dot"]
    cosine, dot = (result["systems"][name]["measures"] for name in ("m-cosine", "m-dot"))
    assert cosine == pytest.approx(dot, abs=1e-9)
    with pytest.raises(ConfigError, match="give cosine, dot, or cosine,dot"):
        evaluate(config, ["bm25=bm25"], similarity="euclid")


def test_every_fault_of_the_systems_at_once(config: Config, tmp_path: Path) -> None:
    faulty = ["a=foo", "b", "c=bm25:x", "d=dense", "e=hybrid:bm25+nobody", "../f=bm25", "g=bm25", "g=tfidf"]
    with pytest.raises(ConfigError) as error:
        evaluate(config, faulty)
    lines = str(error.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"--system {s}" for s in (*faulty[:6], faulty[7])]
    assert "SPEC one of bm25, tfidf, dense:MODEL" in lines[0]
    assert "no argument" in lines[2]
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--runs .*file: is a file"):
        evaluate(config, ["b=bm25"], runs_folder=str(tmp_path / "file"))
    with pytest.raises(DataError, match="no judged nowhere queries"):
        evaluate(config, ["b=bm25"], split="nowhere")


def test_sentence_pairs(configure: Configure, tmp_path: Path) -> None:
    """Equal texts score above unrelated ones: a rank correlation of 1 for two distinct levels."""
    texts = [body for _, _, body in english_world.docstring_pairs()[:6]]
    file = tmp_path / "sts.tsv"
    rows = [(texts[0], texts[0], 5), (texts[1], f"{texts[1]} {texts[2]}", 3), (texts[3], "zzz", 0.5)]
    file.write_text("".join(f"{a}\t{b}\t{score}\n" for a, b, score in rows), encoding="utf-8")
    config = configure(tmp_path, data=str(file))
    result = evaluate(config, [f"base=dense:{config.model}"])
    assert result["systems"]["base"]["measures"]["spearman"] == pytest.approx(1.0)
    assert "spearman 1.0000" in evaluation_summary(result)
    with pytest.raises(ConfigError, match=r"dense:MODEL systems only"):
        evaluate(config, ["words=bm25"])


def test_compare_two_files(adapted: Any, config: Config, tmp_path: Path) -> None:
    first = evaluate(config, ["words=bm25", f"base=dense:{config.model}"])
    second = evaluate(config, ["words=bm25", f"tuned=dense:{adapted.out / 'model'}"])
    for name, value in (("a.json", first), ("b.json", second)):
        write_json(value, tmp_path / name)
    result = compare(str(tmp_path / "a.json"), str(tmp_path / "b.json"), config.evaluation)
    row = result["comparisons"][0]
    assert (row["baseline"], row["treatment"]) == ("first:base", "second:tuned")
    measured = [one["systems"][name]["measures"]["nDCG@10"] for one, name in ((first, "base"), (second, "tuned"))]
    assert row["difference"] == pytest.approx(measured[1] - measured[0], abs=1e-9)
    direct = evaluate(config, [f"base=dense:{config.model}", f"tuned=dense:{adapted.out / 'model'}"])["comparisons"][0]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((direct["ci_low"], direct["ci_high"]), abs=1e-9)
    table = evaluation_summary(result)
    assert "nan" not in table
    assert max(map(len, table.splitlines())) <= WIDTH


@pytest.mark.parametrize("content", ["{bad", "[]", "{}", '{"evaluation": 3}', '{"systems": {}}'])
def test_compare_refuses_what_is_no_evaluation(content: str, config: Config, adapted: Any, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.json:"):
        compare(str(adapted.out / "report.json"), str(tmp_path / "x.json"), config.evaluation)
    assert json.loads((adapted.out / "report.json").read_text(encoding="utf-8"))
