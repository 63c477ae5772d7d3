"""Where judged data come from."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bessemer.config import load_config
from bessemer.errors import ConfigError
from bessemer.recipes.data import load_judged, require_one_input


def test_a_column_mapping_from_yaml_explodes_lists(tmp_path: Path) -> None:
    rows = [
        {"question": f"question {i}", "context": {"contexts": [f"first {i}", f"second {i}"]}, "long": f"answer {i}"}
        for i in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    (tmp_path / "c.yaml").write_text(
        f"data: {tmp_path / 'train.parquet'}\n"
        "columns: {query: question, positives: context.contexts, answers: long}\n",
        encoding="utf-8",
    )
    material = load_judged(load_config(tmp_path / "c.yaml"), require=("train", "test"))
    collection = material.collection
    queries = {query.text: query for judged in collection.splits.values() for query in judged.queries}
    texts = {passage.passage_id: passage.text for passage in collection.passages}
    assert sorted(queries) == [f"question {i}" for i in range(6)]
    assert sorted(texts.values()) == sorted([f"first {i}" for i in range(6)] + [f"second {i}" for i in range(6)])
    assert queries["question 3"].answers == ("answer 3",)
    qrels = {q: grades for judged in collection.splits.values() for q, grades in judged.qrels.items()}
    assert {texts[p] for p in qrels[queries["question 3"].query_id]} == {"first 3", "second 3"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "give either --source"),
        ({"source": "a", "data": "b"}, "and not both"),
        ({"data": "b", "queries": "q"}, "--queries goes with --source"),
    ],
)
def test_one_input_is_asked_for(flags: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        require_one_input(load_config(None, flags))
