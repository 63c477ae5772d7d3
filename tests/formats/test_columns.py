from __future__ import annotations

import json
from pathlib import Path

import pytest

from bessemer.errors import ConfigError, DataError
from bessemer.formats import Columns, Loaded, load_collection, read_columns, read_hf, write_columns
from bessemer.formats.lines import hash_id
from bessemer.types import Judged, Passage, Query

datasets = pytest.importorskip("datasets")

PUBMEDQA = Columns("question", "context.contexts", answers="long_answer", query_id="pubid")


def pubmedqa(n: int) -> list[dict]:
    return [
        {
            "pubid": i,
            "question": f"question {i}?",
            "context": {"contexts": [f"context {i} {part}" for part in "abc"], "labels": ["X", "Y", "Z"]},
            "long_answer": f"answer {i}",
        }
        for i in range(n)
    ]


def texts(loaded: Loaded) -> list[str]:
    return [passage.text for passage in loaded.collection.passages]


def test_lists_explode_into_several_positives(tmp_path: Path) -> None:
    path = tmp_path / "pubmedqa.parquet"
    datasets.Dataset.from_list(pubmedqa(30)).to_parquet(path)
    loaded = load_collection(path, columns=PUBMEDQA)
    assert len(loaded.collection.passages) == 90
    judged = loaded.collection.splits["train"]
    query = next(query for query in judged.queries)
    assert query == Query(query.query_id, f"question {query.query_id}?", answers=(f"answer {query.query_id}",))
    assert judged.qrels[query.query_id] == {hash_id(f"context {query.query_id} {part}"): 1 for part in "abc"}
    assert sum(len(judged.queries) for judged in loaded.collection.splits.values()) == 30


def test_the_dataset_s_own_splits_are_kept(tmp_path: Path) -> None:
    parts = {"train": pubmedqa(12), "validation": pubmedqa(13)[12:], "test": pubmedqa(15)[13:]}
    datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(
        tmp_path / "saved"
    )
    for name, rows in parts.items():
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "hub" / f"{name}-00000-of-00001.parquet")
    for folder in ("saved", "hub"):
        splits = load_collection(tmp_path / folder, columns=PUBMEDQA).collection.splits
        assert {name: len(judged.queries) for name, judged in splits.items()} == {"train": 12, "dev": 1, "test": 2}


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("test", {"test"}),
        ("validation", {"dev"}),
        ("train", {"train", "dev", "test"}),
        ("all", {"train", "dev", "test"}),
    ],
)
def test_a_single_split(name: str, splits: set[str], tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    datasets.Dataset.from_list(pubmedqa(100)).to_parquet(tmp_path / "hub" / f"{name}.parquet")
    assert load_collection(tmp_path / "hub", columns=PUBMEDQA).collection.splits.keys() == splits


def test_an_arrow_file_and_a_path_through_a_list_of_objects(tmp_path: Path) -> None:
    rows = [{"q": "one", "docs": [{"text": "a"}, {"text": "b"}]}]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    assert texts(read_hf(arrow, Columns("q", "docs.text"))) == ["a", "b"]


def test_faults_carry_the_row_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [{"q": "one", "p": ["a"]}, {"q": None, "p": ["a"]}, {"q": "three", "p": []}, {"q": "four", "p": ["", "b"]}]
    datasets.Dataset.from_list(rows).to_parquet(path)
    with pytest.raises(DataError) as caught:
        read_hf(path, Columns("q", "p"))
    assert [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems] == [
        "2:q: is null, not a text; map a column of texts or lists of texts",
        "3:p: is empty or holds an empty text; give at least one positive",
        "4:p: is empty or holds an empty text; give at least one positive",
    ]
    with pytest.raises(DataError, match=r"rows\.parquet:1:nope: is missing; columns: q, p; mend the column mapping"):
        read_hf(path, Columns("q", "nope"))
    with pytest.raises(ConfigError, match="which of the columns q, p hold query and positives"):
        read_hf(path)


def test_what_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text("not parquet")
    with pytest.raises(DataError, match=r"bad\.parquet:-:-: cannot be read as a dataset"):
        read_hf(tmp_path / "bad.parquet", PUBMEDQA)


def test_a_corrupt_page_behind_a_good_start(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list([{"q": f"question {i}", "p": f"passage {i}"} for i in range(100)]).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[40:400] = b"\xff" * 360  # the footer, which is read first, stands at the end
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.parquet:-:-: cannot be read as a dataset \(.*\); give whole Parquet"):
        read_hf(path, Columns("q", "p"))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_sentence_transformers_columns_need_no_mapping(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"anchor": "q", "positive": "a", "negative_1": "b", "negative_2": "c"},
        {"anchor": "q", "positive": "d", "negative_1": "e", "negative_2": None},
    ]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        datasets.Dataset.from_list(rows).to_parquet(path)
    loaded = load_collection(path)
    assert sorted(texts(loaded)) == ["a", "b", "c", "d", "e"]
    assert loaded.collection.splits["train"].qrels == {hash_id("q"): {hash_id("a"): 1, hash_id("d"): 1}}
    assert loaded.negatives[0].passage_ids == tuple(map(hash_id, "bce"))


def test_columns_are_read_back_alike(tmp_path: Path) -> None:
    passages = [Passage(hash_id(text), hash_id(text), text, end=1) for text in "abc"]
    qrels = {hash_id("q"): {hash_id("a"): 1, hash_id("b"): 1}, hash_id("r"): {hash_id("c"): 1}}
    judged = Judged((Query(hash_id("q"), "q"), Query(hash_id("r"), "r")), qrels)
    assert write_columns(tmp_path / "rows.jsonl", judged, passages) == 3
    collection = read_columns(tmp_path / "rows.jsonl").collection
    assert (collection.passages, collection.splits) == (tuple(passages), {"train": judged})
