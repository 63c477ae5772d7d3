from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.errors import DataError
from bessemer.formats import LabelledPair, ScoredPair, Triplet, load_collection, read_pairs


def write(folder: Path, text: str) -> Path:
    path = folder / "pairs.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_pairs(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


@pytest.mark.parametrize("header", ["", "sentence1\tsentence2\tscore\n"])
def test_scored_pairs_with_and_without_a_header(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, header + "a\tb\t2.5\nc\td\t5\n")
    assert read_pairs(path) == (ScoredPair("a", "b", 2.5), ScoredPair("c", "d", 5.0))


def test_zeros_and_ones_are_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "a\tb\t1\nc\td\t0\n")
    assert read_pairs(path) == (LabelledPair("a", "b", True), LabelledPair("c", "d", False))


def test_text_in_the_third_column_makes_triplets(tmp_path: Path) -> None:
    assert read_pairs(write(tmp_path, "a\tb\tc\nd\te\tf\n")) == (Triplet("a", "b", "c"), Triplet("d", "e", "f"))
    assert read_pairs(write(tmp_path, "anchor\tpositive\tnegative\na\tb\tc\n")) == (Triplet("a", "b", "c"),)


def test_faulty_lines_are_all_named(tmp_path: Path) -> None:
    assert problems_of(write(tmp_path, "a\tb\t1.5\na\tb\na\tb\tx\n\tb\t3\na\tb\t4\n")) == [
        "2:-: 2 columns where 3 belong; separate a, b, score by tabs",
        "4:column 1: is empty; give the text or remove the line",
        "3:score: 'x' is not a finite number; give the score of the pair",
    ]
    assert problems_of(write(tmp_path, "a\tb\tnan\nc\td\t2\n")) == [  # no header
        "1:score: 'nan' is not a finite number; give the score of the pair"
    ]
    assert problems_of(write(tmp_path, "")) == ["-:-: no pairs; write a, b, score per line, separated by tabs"]


def test_triplets_are_a_collection_and_scored_pairs_are_none(tmp_path: Path) -> None:
    loaded = load_collection(write(tmp_path, "q\tb\tc\nq\td\te\n"))
    assert [passage.text for passage in loaded.collection.passages] == ["b", "c", "d", "e"]
    assert [len(judged.queries) for judged in loaded.collection.splits.values()] == [1]
    with pytest.raises(DataError, match="sentence pairs are no collection to search"):
        load_collection(write(tmp_path, "a\tb\t2.5\n"))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "n"), [("en/train", 5749), ("en/dev", 1500), ("en/test", 1379), ("zh/train", 5231), ("zh/dev", 1458)]
)
def test_real_sts_files(data_dir: Path, name: str, n: int) -> None:
    pairs = read_pairs(data_dir / "sts" / f"{name}.tsv")
    assert len(pairs) == n
    assert all(isinstance(pair, ScoredPair) and 0 <= pair.score <= 5 for pair in pairs)
