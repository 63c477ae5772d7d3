"""The turns before a question are part of what is searched, everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bessemer.cli import app
from bessemer.config import Config
from bessemer.formats import load_collection
from bessemer.formats.lines import write_jsonl
from bessemer.recipes.evaluate import evaluate
from bessemer.training.batches import TrainingSet
from bessemer.types import Query

TURNS = {"a": ("I read about the garden.", "It was green."), "b": ("I read about the kitchen.",)}
PASSAGES = {"pa": "the garden in the morning", "pb": "the kitchen at night", "pc": "the river"}


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    """Two queries of the same words that mean different things."""
    folder = tmp_path / "data"
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", [{"_id": key, "title": "", "text": text} for key, text in PASSAGES.items()])
    rows = [{"_id": key, "text": "why?", "metadata": {"history": list(turns)}} for key, turns in TURNS.items()]
    write_jsonl(folder / "queries.jsonl", rows)
    for split in ("train", "dev", "test"):
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\na\tpa\t1\nb\tpb\t1\n")
    return folder


def test_the_question_comes_first_and_the_oldest_turn_last() -> None:
    assert Query("q", "why?", history=("first", "second")).searched_text == "why?\nsecond\nfirst"
    assert Query("q", "why?").searched_text == "why?"


def test_every_lane_searches_for_the_turns_too(conversations: Path, tmp_path: Path) -> None:
    config = Config(data=str(conversations), model="minilm", device="cpu", workspace=str(tmp_path / "w"))
    found = evaluate(config, ["bm25=bm25", "dense=dense:minilm"])
    assert found["systems"]["bm25"]["measures"]["nDCG@10"] == 1.0
    assert found["systems"]["dense"]["measures"]["nDCG@10"] == 1.0


def test_the_same_words_after_other_turns_are_another_question(conversations: Path) -> None:
    collection = load_collection(str(conversations)).collection
    train = TrainingSet(collection.splits["train"], collection.passages, [], 1, 0)
    assert [len(ids) for ids in train.never_negative] == [1, 1]


def test_search_takes_turns(conversations: Path, english_model: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, [*map(str, arguments), "--workspace", str(tmp_path / "workspace")])

    index = tmp_path / "index"
    assert run("index", "--data", conversations, "--model", english_model, "--out", index).exit_code == 0
    told = ("--history", "I read about the kitchen.", "--history", "It was dark.")
    found = json.loads(run("search", "--index", index, *told, "--json", "-", "why?").stdout)
    assert found[0]["passage_id"] == "pb"
