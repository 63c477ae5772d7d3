from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import english_world
from bessemer.config import Config
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import ConfigError, DataError
from bessemer.formats.trec import read_run
from bessemer.recipes.compare import compare
from bessemer.recipes.evaluate import evaluate, plan_evaluate
from bessemer.recipes.index import index
from bessemer.recipes.output import write_json
from bessemer.recipes.summary import WIDTH, evaluation_summary
from lane_models import write_cross_encoder

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


def test_a_second_run_tells_the_speed_of_encoding_too(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its query vectors are kept, so the search alone would be thousands per second."""
    encode = DenseEncoder.encode

    def slow(*of_encoder: Any, **named: Any) -> Any:
        time.sleep(1)
        return encode(*of_encoder, **named)

    monkeypatch.setattr(DenseEncoder, "encode", slow)
    for _ in range(2):
        result = evaluate(config, ["bm25=bm25", f"m=dense:{config.model}"], similarity="cosine,dot")
        speeds = {name: system["queries_per_second"] for name, system in result["systems"].items()}
        assert speeds["m-cosine"] < result["n_queries"]
        assert speeds["m-dot"] < result["n_queries"]


def test_cosine_and_dot(config: Config) -> None:
    """The model normalises, so the two are one; each is its own system."""
    result = evaluate(config, ["bm25=bm25", f"m=dense:{config.model}"], similarity="cosine,dot")
    assert list(result["systems"]) == ["bm25", "m-cosine", "m-dot"]
    cosine, dot = (result["systems"][name]["measures"] for name in ("m-cosine", "m-dot"))
    assert cosine == pytest.approx(dot, abs=1e-9)
    pair = [f"a=dense:{config.model}", f"b=dense:{config.model}"]
    first = evaluate(config, pair, similarity="cosine,dot")["comparisons"][0]
    assert (first["baseline"], first["treatment"]) == ("a-dot", "b-dot")  # like with like
    with pytest.raises(ConfigError, match="give cosine, dot, or cosine,dot"):
        evaluate(config, ["bm25=bm25"], similarity="euclid")


def test_a_task_that_a_model_does_not_know_is_told(config: Config) -> None:
    asked = config.model_copy(update={"task": "qaa"})
    (told,) = evaluate(asked, ["words=bm25", f"base=dense:{config.model}"])["warnings"]
    assert told == f"base: {config.model} has no prompts for task qaa: its own were used."
    assert evaluate(config, [f"base=dense:{config.model}"])["warnings"] == []


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


def test_ids_that_run_files_cannot_hold_are_told_before_any_system_runs(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "qrels").mkdir()
    english_world.write_jsonl(tmp_path / "corpus.jsonl", [{"_id": "p 0", "text": "one"}, {"_id": "p1", "text": "two"}])
    english_world.write_jsonl(tmp_path / "queries.jsonl", [{"_id": "q 0", "text": "a"}, {"_id": "q 1", "text": "b"}])
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq 0\tp1\t1\n")
    monkeypatch.setattr("bessemer.recipes.evaluate.SPECS", {})
    with pytest.raises(ConfigError, match=r"2 ids with spaces cannot stand in a TREC file: 'p 0', 'q 0'"):
        evaluate(configure(tmp_path, data=str(tmp_path)), ["b=bm25"], runs_folder=str(tmp_path / "runs"))


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
    with pytest.raises(ConfigError, match=r"^--split, --runs: means nothing for a TSV of sentence pairs"):
        evaluate(config, [f"base=dense:{config.model}"], "dev", runs_folder=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


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


def test_compare_files_of_one_system_each(adapted: Any, config: Config, tmp_path: Path) -> None:
    pair = [f"base=dense:{config.model}", f"tuned=dense:{adapted.out / 'model'}"]
    for name, system in zip(("a.json", "b.json"), pair, strict=True):
        write_json(evaluate(config, [system]), tmp_path / name)
    row = compare(str(tmp_path / "a.json"), str(tmp_path / "b.json"), config.evaluation)["comparisons"][0]
    direct = evaluate(config, pair)["comparisons"][0]
    assert [row[key] for key in ("difference", "ci_low", "ci_high")] == pytest.approx(
        [direct[key] for key in ("difference", "ci_low", "ci_high")], abs=1e-9
    )


def extracted_world(tmp_path: Path, splits: tuple[str, ...] = ("dev", "test")) -> Path:
    """The small world; its passages that are asked for in ``splits`` have something withheld."""
    beir = english_world.write_beir(tmp_path / "beir")
    lines = [line for name in splits for line in (beir / "qrels" / f"{name}.tsv").read_text().splitlines()[1:]]
    asked = {line.split("\t")[1] for line in lines}
    corpus = beir / "corpus.jsonl"
    rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["_id"] in asked:
            end = len(row["text"])
            row["metadata"] = {"doc_id": row["_id"], "start": 0, "end": end, "headings": [], "withheld": [[0, 9]]}
    english_world.write_jsonl(corpus, rows)
    return beir


def test_an_index_is_not_measured_by_questions_that_it_holds(configure: Configure, tmp_path: Path) -> None:
    beir = extracted_world(tmp_path)
    config = configure(tmp_path, data=str(beir))
    index(config)
    systems = ["bm25=bm25", f"i=index:{config.out}"]
    for run in (evaluate, plan_evaluate):
        with pytest.raises(ConfigError, match="16 of the 16 queries were extracted from passages that the index holds"):
            run(config, systems, "test")
    with pytest.raises(ConfigError, match=r"none of the 8 dev queries .*\(8 were, and the index holds the whole"):
        index(config.model_copy(update={"index": config.index.model_copy(update={"fusion_data": str(beir)})}))
    assert evaluate(config, systems[:1])["n_queries"] == 16


def test_blank_queries_and_passages_of_the_index_alone(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    config = configure(tmp_path, data=str(beir))
    rows = [json.loads(line) for line in (beir / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    more = [{"_id": f"more-{row['_id']}", "text": row["text"]} for row in rows]
    english_world.write_jsonl(beir / "corpus.jsonl", [*rows, *more])
    index(config)
    english_world.write_jsonl(beir / "corpus.jsonl", rows)
    queries = beir / "queries.jsonl"
    asked = [json.loads(line) for line in queries.read_text(encoding="utf-8").splitlines()]
    first = (beir / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1].split("\t")[0]
    english_world.write_jsonl(queries, [{**row, "text": "  "} if row["_id"] == first else row for row in asked])
    cross = write_cross_encoder(tmp_path / "cross")
    result = evaluate(config, ["bm25=bm25", f"i=index:{config.out}", f"r=rerank:i:{cross}"])
    assert any(w.startswith("r: ") and "hits of i are no passages of the data" in w for w in result["warnings"])
    assert result["systems"]["r"]["measures"]["R@10"] > 0
