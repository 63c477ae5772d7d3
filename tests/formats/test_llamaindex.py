from __future__ import annotations

import json
from pathlib import Path

import pytest

from bessemer.errors import DataError
from bessemer.formats import load_collection, read_llamaindex, write_llamaindex
from bessemer.types import Judged, Passage, Query


def test_the_dataset_is_written_and_read_back_alike(tmp_path: Path) -> None:
    passages = tuple(Passage(f"p{i}", f"p{i}", f"text {i}", end=6) for i in range(9))
    judged = Judged(tuple(Query(f"q{i}", f"问 {i}") for i in range(9)), {f"q{i}": {f"p{i}": 1} for i in range(9)})
    path = tmp_path / "dataset.json"
    write_llamaindex(path, judged, passages)
    assert set(json.loads(path.read_text(encoding="utf-8"))) == {"queries", "corpus", "relevant_docs", "mode"}
    collection = load_collection(path).collection
    assert collection.passages == passages
    assert list(collection.splits) == ["train", "dev", "test"]
    assert {query for part in collection.splits.values() for query in part.queries} == set(judged.queries)
    assert {key: grades for part in collection.splits.values() for key, grades in part.qrels.items()} == judged.qrels


def test_all_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    dataset = {
        "corpus": {"a": "text", "b": 5},
        "queries": {"q": "text"},
        "relevant_docs": {"q": ["nowhere"], "r": ["a"], "s": "a"},
    }
    path.write_text(json.dumps(dataset))
    with pytest.raises(DataError) as caught:
        read_llamaindex(path)
    assert [str(problem).removeprefix(f"{path}:-:") for problem in caught.value.problems] == [
        "corpus.b: is a number, not a string; give the text",
        "relevant_docs.q: unknown passage 'nowhere'; add it to corpus or remove it",
        "relevant_docs.r: unknown query 'r'; add it to queries or remove it",
        "relevant_docs.s: unknown query 's'; add it to queries or remove it",
        "relevant_docs.s: is a string where a list of ids belongs; give a list",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"queries":\n {', "2:-: not valid JSON"), ("[]", "holds a list"), ("{}", "corpus: is missing")],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_llamaindex(path)
