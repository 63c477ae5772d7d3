"""Questions of an index from folders and files; none of those that anything is judged by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import english_world
from bessemer import open_index
from bessemer.cli import app
from bessemer.config import Config
from bessemer.errors import DataError
from bessemer.recipes.index import index
from bessemer.search.index_manifest import read_manifest
from bessemer.search.stores.files import FilesEngine

Configure = Callable[..., Config]


def questions_in(folder: str) -> dict[str, set[str]]:
    """Every question of the index -> the passages that it points at."""
    engine = FilesEngine(folder)
    found: dict[str, set[str]] = {}
    for batch in engine.open(read_manifest(engine)["questions"]["generation"]).all_passages():
        for record in batch:
            found.setdefault(record.text, set()).add(json.loads(record.passage_id)[0])
    return found


def lines(path: Path, *rows: dict[str, object]) -> str:
    english_world.write_jsonl(path, rows)
    return str(path)


def test_no_query_that_anything_is_judged_by_comes_in(configure: Configure, tmp_path: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    pairs = english_world.docstring_pairs()
    (own := tmp_path / "own.jsonl").touch()
    held_out = [{"query": f"{pairs[i][1].upper()} ?", "passage_id": f"p{i}"} for i in (24, 31, 32, 47)]
    lines(own, *held_out, {"query": "what else is there", "passage_id": ["p40", "p41"]})
    config = configure(tmp_path, data=str(beir), index={"questions": [str(beir), str(own)]})
    result = index(config)
    found = questions_in(config.out)
    train = {pairs[i][1]: {f"p{i}"} for i in english_world.SPLITS["train"]}
    assert found == train | {"what else is there": {"p40", "p41"}}
    assert (result["n_questions"], result["n_questions_encoded"], result["asked_passages"]) == (26, 25, 26)
    assert result["questions_dropped"] == {"it is a dev or test query": 4}
    again = index(config)
    assert (again["n_questions"], again["n_questions_encoded"], again["n_encoded"]) == (26, 0, 0)


def test_a_dev_carved_from_train_stays_out_as_everywhere(configure: Configure, tmp_path: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    (beir / "qrels" / "dev.tsv").unlink()
    config = configure(tmp_path, data=str(beir), index={"questions": [str(beir)]})
    n_train = len(english_world.SPLITS["train"])
    assert 0 < index(config)["n_questions"] < n_train
    carved = configure(tmp_path, data=str(beir), index={"questions": [str(beir)]}, seed=7)
    assert 0 < index(carved)["n_questions"] < n_train


def test_mined_questions_of_other_texts_are_left_out(configure: Configure, tmp_path: Path) -> None:
    mined = english_world.write_beir(tmp_path / "mined")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    rows = [json.loads(line) for line in (mined / "corpus.jsonl").read_text().splitlines()][1:]
    rows[0]["text"] += " and more"
    lines(corpus / "corpus.jsonl", *rows)
    config = configure(tmp_path, data=str(corpus), index={"questions": [str(mined)]})
    result = index(config)
    assert result["questions_dropped"] == {"its passage is not indexed": 1, "its passage has another text here": 1}
    assert result["n_questions"] == len(english_world.SPLITS["train"]) - 2


def test_feedback_and_quotes_of_documents(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    body = english_world.docstring_pairs()[0][2]
    (tmp_path / "source" / "one.md").write_text(f"# One\n\n{body}\n", encoding="utf-8")
    config = configure(tmp_path, source=str(tmp_path / "source"))
    index(config)
    [hit] = open_index(config.out).search("one", 1)
    told = {"passage_id": hit["passage_id"], "helpful": True}
    feedback = lines(
        tmp_path / "feedback.jsonl",
        {"query": "was good", **told, "time": "2026-01-01"},
        {"query": "was good", **told, "helpful": False, "time": "2026-01-02"},
        {"query": "is good", **told, "helpful": False, "time": "2026-01-01"},
        {"query": "is good", **told, "time": "2026-01-02"},
        {"query": "of another place", "passage_id": "gone", "helpful": True},
    )
    own = lines(tmp_path / "own.jsonl", {"query": "by quote", "source": "one.md", "quote": body.split(".")[0]})
    config = configure(tmp_path, source=config.source, index={"questions": [feedback, own]})
    result = index(config)
    assert questions_in(config.out) == {"is good": {hit["passage_id"]}, "by quote": {hit["passage_id"]}}
    assert result["questions_dropped"] == {
        "none of its passages is relevant": 1,
        "passage_id 'gone' is not in the corpus": 1,
    }
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        index(configure(tmp_path, source=config.source, index={"questions": ["nowhere.jsonl"]}))


def test_from_the_command_line(tmp_path: Path, english_model: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    common = ["--workspace", str(tmp_path / "workspace"), "--device", "cpu"]
    own = lines(tmp_path / "own.jsonl", {"query": "zzz never written", "passage_id": "p59"})

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, *common])
        assert result.exit_code == code, result.output
        return result.output

    out = str(tmp_path / "index")
    build = ("index", "--data", str(beir), "--model", str(english_model), "--out", out)
    assert "questions" not in run(*build)
    built = run(*build, "--questions", f"{beir},{own}")
    assert "25 questions of passages: 25 encoded" in built
    assert "warning: only 25 of 60 passages have a question" in built
    search = ("search", english_world.docstring_pairs()[3][1], "--index", out)
    hits = json.loads(run(*search, "--top-k", "60", "--json", "-"))
    [first] = [hit for hit in hits if hit["lanes"].get("questions", {}).get("rank") == 1]
    assert (first["passage_id"], first["lanes"]["questions"]["score"]) == ("p3", pytest.approx(1.0, abs=1e-5))
    assert "asked before: " in run(*search, "--explain")
    (tmp_path / "empty").mkdir()
    assert "corpus.jsonl" in run(*build, "--questions", str(tmp_path / "empty"), code=3)
