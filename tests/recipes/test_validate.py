from __future__ import annotations

import json
from pathlib import Path

import pytest

from bessemer.config import Config
from bessemer.recipes.validate import Lengths, SplitCounts, render, validate, validate_input


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four passages of 1, 2, 3 and 10 words; one leak; one graded judgement."""
    rows = [{"_id": f"p{n}", "text": " ".join("x" * n)} for n in (1, 2, 3, 10)]
    queries = [{"_id": "a", "text": "who  is it", "metadata": {"answers": "me"}}, {"_id": "b", "text": "Who is it"}]
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\na\tp1\t2\na\tp2\t0\n")
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nb\tp3\t1\n")
    return tmp_path


def test_counts_lengths_truncation_and_leaks(folder: Path) -> None:
    validation = validate(folder, count_tokens=words, max_length=2)
    assert validation.problems == ()
    assert (validation.n_passages, validation.n_documents) == (4, 4)
    assert validation.splits == {"train": SplitCounts(1, 2, 1, 1), "test": SplitCounts(1, 1, 1, 0)}
    assert validation.grades == {0: 1, 1: 1, 2: 1}
    assert validation.lengths["passages"] == (
        Lengths("characters", 4, mean=7.0, median=3, p95=19, longest=19),  # 1, 3, 5 and 19
        Lengths("tokens", 4, mean=4.0, median=2, p95=10, longest=10, n_truncated=2),
    )
    assert validation.lengths["passages"][1].truncation_share == 0.5
    assert validation.lengths["queries"][1] == Lengths("tokens", 2, 3.0, 3, 3, 3, n_truncated=2)
    assert validation.warnings == ("leak: 1 query texts stand in train and test",)
    assert validation.counts == {"leak.query_text.train-test": 1}


def test_turns_before_a_query_are_of_its_length(folder: Path) -> None:
    """They are encoded with it."""
    queries = [{"_id": name, "text": "and now", "metadata": {"history": ["x y z"]}} for name in ("a", "b")]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    found = validate(folder, count_tokens=words, max_length=4).lengths["queries"][1]
    assert (found.longest, found.n_truncated) == (5, 2)


def test_a_query_length_of_its_own(folder: Path) -> None:
    validation = validate(folder, count_tokens=words, max_length=2, query_max_length=3)
    assert validation.lengths["queries"][1].n_truncated == 0


def test_documents_around_where_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written, so that ``out`` may lie among them."""
    (tmp_path / "a.md").write_text("# Cache\n\nThe cache lies in the workspace.\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    validation, _ = validate_input(Config(source="."), tokens=False)
    assert (validation.n_documents, validation.problems) == (1, ())


def test_columns_of_the_configuration(tmp_path: Path) -> None:
    rows = [{"question": f"what is {n}", "found": {"texts": [f"it is {n}"]}} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"query": "question", "positives": "found.texts"}
    validation, _ = validate_input(Config(data=str(tmp_path / "rows.jsonl"), columns=columns), tokens=False)
    assert (validation.n_passages, validation.problems) == (12, ())


def test_the_rendering_is_plain_and_narrow(folder: Path) -> None:
    validation = validate(folder, count_tokens=words, max_length=2)
    lines = render(validation).splitlines()
    assert lines[1:5] == [
        "passages         4   of 4 documents",
        "train            1 queries, 1.00 relevant each, 1 with answers",
        "test             1 queries, 1.00 relevant each",
        "grades    0: 1, 1: 1, 2: 1",
    ]
    assert "passages, tokens          4.0        2       10       10  2 (50.0%)" in lines
    assert lines[-2:] == ["warning   leak: 1 query texts stand in train and test", "no problems, 1 warning"]
    assert all(len(line) <= 80 for line in lines[1:])


def test_faults_are_listed_one_per_line_without_control_characters(folder: Path) -> None:
    with open(folder / "qrels" / "train.tsv", "a") as stream:
        stream.write("a\tp9\x1b[31m\t1\nz\tp1\t1\n")
    with open(folder / "corpus.jsonl", "a") as stream:
        stream.write(json.dumps({"_id": "p5", "text": "x", "metadata": 1}) + "\n{\n")
    validation = validate(folder)
    assert len(validation.problems) == 4
    text = render(validation)
    assert "\x1b" not in text
    assert text.splitlines()[-1] == "4 problems"
    assert len(text.splitlines()) == 6


def test_a_split_that_is_required(folder: Path) -> None:
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n")
    assert validate(folder).problems == ()
    (problem,) = validate(folder, require=("train",)).problems
    assert problem.message == "no judged train queries"


def test_sentence_pairs(tmp_path: Path) -> None:
    path = tmp_path / "sts.tsv"
    path.write_text("a b\tc\t2.5\na b\tc\t2.5\nd\te\t0\n")
    validation = validate(path, count_tokens=words, max_length=1)
    assert (validation.n_pairs, validation.counts) == (3, {"duplicate_pairs": 1})
    assert validation.lengths["texts"][1] == Lengths("tokens", 6, 8 / 6, 1, 2, 2, n_truncated=2)
    assert "pairs            3" in render(validation)


@pytest.mark.real_data
def test_real_collections_validate_without_problems(data_dir: Path) -> None:
    for folder in sorted((data_dir / "beir").iterdir()):
        validation = validate(folder)
        assert validation.problems == ()
        assert all(len(line) <= 80 for line in render(validation).splitlines()[1:])
