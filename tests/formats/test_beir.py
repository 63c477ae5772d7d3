from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.errors import ConfigError, DataError
from bessemer.formats import read_beir, write_beir
from bessemer.types import Collection, Judged, Passage, Query

HEADER = "query-id\tcorpus-id\tscore\n"


def make(folder: Path, corpus: list, queries: list | None, **qrels: str) -> Path:
    """A BEIR folder from rows (a str is a raw line) and from the texts of its qrels."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        if rows is not None:
            text = "".join(
                (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows
            )
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for name, text in qrels.items():
        (folder / "qrels" / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def corpus(n: int) -> list[dict]:
    return [{"_id": f"p{i}", "title": "", "text": f"passage {i}"} for i in range(n)]


def queries(n: int) -> list[dict]:
    return [{"_id": f"q{i}", "text": f"query {i}"} for i in range(n)]


def problems_of(folder: Path, **arguments: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_beir(folder, **arguments)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_graded_folder_with_a_further_slice(tmp_path: Path) -> None:
    rows = [
        {"_id": 1, "text": "one"},
        {"_id": "2", "title": None, "text": "two"},
        {"_id": "3", "title": "T", "text": "3"},
    ]
    make(
        tmp_path / "mine",
        rows,
        [
            {"_id": "a", "text": "A", "metadata": {"long_answer": "yes"}},
            {"_id": "b", "text": "B"},
            {"_id": "c", "text": "C"},
        ],
        train=HEADER + "a\t1\t2\na\t2\t0\n",
        dev=HEADER + "b\t2\t1\n",
        hard="c\t3\t4\n",  # no header: its third column is a number
    )
    loaded = read_beir(tmp_path / "mine")
    collection = loaded.collection
    assert collection.name == "mine"
    assert [p.passage_id for p in collection.passages] == ["1", "2", "3"]
    assert collection.passages[2] == Passage("3", "3", "3", title="T", start=0, end=1)
    assert list(collection.splits) == ["train", "dev", "hard"]
    assert collection.splits["train"] == Judged((Query("a", "A", answers=("yes",)),), {"a": {"1": 2, "2": 0}})
    assert collection.splits["hard"].qrels == {"c": {"3": 4}}
    assert loaded.counts == {"integer_ids": 1}


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    make(
        tmp_path,
        [
            {"_id": "p0", "text": "good"},
            "{broken",
            {"_id": "p0", "text": "again"},
            {"_id": "p3", "text": 7},
            {"text": "no id"},
            {"_id": "p5"},
            {"_id": "", "text": "x"},
            {"_id": "p7", "text": "x", "title": ["T"]},
            {"_id": "p8", "text": "x", "metadata": "m"},
        ],
        [{"_id": "q0", "text": None}, {"_id": "q1", "text": "good"}],
        train=HEADER + "q1\tp0\tyes\nq1\tnowhere\t1\nq9\tp0\t1\nq1\tp0\nq0\tp3\t1\nq1\tp0\t1\nq1\tp0\t2\nq1\tp5\t1.5\n",
    )
    assert problems_of(tmp_path, require=("train", "test")) == [
        "corpus.jsonl:2:-: not valid JSON: Expecting property name enclosed in double quotes at column 2; "
        "write one JSON object per line",
        "corpus.jsonl:3:_id: duplicate id 'p0', first on line 1; give every row its own id",
        'corpus.jsonl:4:text: is a number, not a string; give "text": "..."',
        'corpus.jsonl:5:_id: is missing; give "_id": "..."',
        'corpus.jsonl:6:text: is missing; give "text": "..."',
        'corpus.jsonl:7:_id: is empty; give "_id": "..."',
        'corpus.jsonl:8:title: is a list, not a string; give "title": "..."',
        'corpus.jsonl:9:metadata: is a string, not an object; write "metadata": {...} or leave it out',
        'queries.jsonl:1:text: is null, not a string; give "text": "..."',
        "qrels/train.tsv:2:score: 'yes' is not an integer; give 0 (not relevant), 1, 2, ...",
        "qrels/train.tsv:3:corpus-id: unknown passage 'nowhere'; add it to corpus.jsonl or remove the line",
        "qrels/train.tsv:4:query-id: unknown query 'q9'; add it to queries.jsonl or remove the line",
        "qrels/train.tsv:5:-: 2 columns where 3 belong; write query-id, corpus-id, score, separated by tabs",
        "qrels/train.tsv:8:score: 'q1', 'p0' was judged 1 before; keep one of the two",
        "qrels/train.tsv:9:score: '1.5' is not an integer; give 0 (not relevant), 1, 2, ...",
        "qrels/test.tsv:-:-: no judged test queries; give this split, or make it with `bessemer questions`",
    ]


def test_a_first_line_with_a_number_that_is_no_grade_is_a_fault_not_a_header(tmp_path: Path) -> None:
    make(tmp_path, corpus(1), queries(1), test="q0\tp0\t0.5\n")
    assert problems_of(tmp_path) == [
        "qrels/test.tsv:1:score: '0.5' is not an integer; give 0 (not relevant), 1, 2, ..."
    ]


@pytest.mark.parametrize("train", [None, HEADER, ""])
def test_a_missing_or_header_only_train_is_an_error_where_it_is_needed(tmp_path: Path, train: str | None) -> None:
    make(tmp_path, corpus(1), queries(1), test=HEADER + "q0\tp0\t1\n", **({} if train is None else {"train": train}))
    assert list(read_beir(tmp_path).collection.splits) == ["test"]
    assert problems_of(tmp_path, require=("train",)) == [
        "qrels/train.tsv:-:-: no judged train queries; give this split, or make it with `bessemer questions`"
    ]


def test_a_corpus_alone_is_enough_unless_splits_are_required(tmp_path: Path) -> None:
    make(tmp_path, corpus(2), None, test=HEADER + "q0\tp0\t1\n")
    loaded = read_beir(tmp_path)
    assert len(loaded.collection.passages) == 2
    assert loaded.collection.splits == {}
    assert loaded.counts == {"no_queries": 1, "qrels_unread": 1}
    assert len(problems_of(tmp_path, require=("test",))) == 1


def test_an_empty_and_a_missing_corpus(tmp_path: Path) -> None:
    make(tmp_path / "a", [], queries(1))
    assert problems_of(tmp_path / "a") == ["corpus.jsonl:-:-: the corpus is empty; give at least one passage"]
    make(tmp_path / "b", [], queries(1))
    (tmp_path / "b" / "corpus.jsonl").unlink()
    assert problems_of(tmp_path / "b") == [
        "corpus.jsonl:-:-: is not there; a folder of judged data holds corpus.jsonl, queries.jsonl and "
        "qrels/NAME.tsv; documents go with --source"
    ]


def test_empty_texts_duplicates_and_leaks_are_counted_and_everything_stays(tmp_path: Path) -> None:
    rows = [
        *corpus(2),
        {"_id": "p2", "text": " "},
        {"_id": "p3", "title": "T", "text": ""},
        {"_id": "p4", "text": "Passage  1"},
    ]
    texts = ["same", "Same ", "", "other", "SAME"]
    make(
        tmp_path,
        rows,
        [{"_id": f"q{i}", "text": text} for i, text in enumerate(texts)],
        train=HEADER + "q0\tp0\t1\nq1\tp1\t1\nq2\tp2\t1\n",
        dev=HEADER + "q3\tp4\t1\nq3\tp0\t0\n",
        test=HEADER + "q4\tp0\t1\nq0\tp3\t0\n",
    )
    loaded = read_beir(tmp_path)
    assert loaded.counts == {
        "empty_passages": 2,
        "duplicate_passages": 1,  # p4 is p1 but for case and space
        "empty_queries.train": 1,
        "duplicate_queries.train": 1,
        "duplicate_queries.test": 1,
        "no_positive.test": 1,  # q0 is judged, and nothing is relevant
        "leak.query_text.train-test": 1,
        "leak.query_id.train-test": 1,
        "leak.positive.train-dev": 1,  # by text: p4 and p1
        "leak.positive.train-test": 1,  # p0
    }
    assert "leak: 1 query texts stand in train and test" in loaded.warnings
    assert len(loaded.collection.passages) == 5
    assert [query.query_id for query in loaded.collection.splits["train"].queries] == ["q0", "q1", "q2"]


def test_dev_is_carved_from_train_without_shared_positives(tmp_path: Path) -> None:
    lines = "".join(f"q{i}\tp{i // 2}\t1\n" for i in range(200))  # queries in pairs
    make(tmp_path, corpus(100), queries(200), train=HEADER + lines, dev=HEADER)
    loaded = read_beir(tmp_path, seed=1)
    train, dev = loaded.collection.splits["train"], loaded.collection.splits["dev"]
    assert len(train.queries) + len(dev.queries) == 200
    assert 8 <= len(dev.queries) <= 36  # 20 expected; standard deviation 2 * sqrt(100 * .1 * .9) = 6
    assert loaded.counts == {"dev_carved": len(dev.queries)}
    shared = {p for grades in train.qrels.values() for p in grades} & {
        p for grades in dev.qrels.values() for p in grades
    }
    assert shared == set()
    assert read_beir(tmp_path, seed=1).collection == loaded.collection
    assert read_beir(tmp_path, seed=2).collection.splits["dev"] != dev


def test_metadata_that_could_not_be_written_is_refused_at_reading(tmp_path: Path) -> None:
    make(tmp_path / "mine", ['{"_id": "p0", "text": "t", "metadata": {"price": NaN}}'], None)
    assert problems_of(tmp_path / "mine") == [
        "corpus.jsonl:1:metadata.price: is NaN or beyond all numbers; give a number or null"
    ]


def test_foreign_metadata_is_counted_not_believed(tmp_path: Path) -> None:
    metadata = {"start": "2020-01-01", "headings": "H", "withheld": [[0, 99]], "pmid": 5}
    answers = {"answers": {"text": ["a"]}}
    make(
        tmp_path,
        [{"_id": "p", "text": "abc", "metadata": metadata}],
        [{"_id": "q", "text": "q", "metadata": answers}],
        test=HEADER + "q\tp\t1\n",
    )
    loaded = read_beir(tmp_path)
    assert loaded.collection.passages == (Passage("p", "p", "abc", end=3, metadata=metadata),)
    assert loaded.collection.splits["test"].queries == (Query("q", "q"),)
    assert loaded.counts == {"foreign_metadata": 1, "foreign_answers": 1}


def test_ids_that_would_break_the_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tab or line break.*'a\\tb'"):
        write_beir(Collection("x", (Passage("a\tb", "d", "text"),), {}), tmp_path)


def test_a_second_write_leaves_no_qrels_of_the_first(tmp_path: Path) -> None:
    passages = (Passage("p", "p", "text", end=4),)
    judged = Judged((Query("q", "query"),), {"q": {"p": 1}})
    write_beir(Collection("x", passages, {"old": judged}), tmp_path)
    write_beir(Collection("x", passages, {"test": judged}), tmp_path)
    assert list(read_beir(tmp_path).collection.splits) == ["test"]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).filter(str.strip)


@st.composite
def collections(draw: st.DrawFn) -> Collection:
    passages = []
    for passage_id in draw(st.lists(ids, min_size=1, max_size=4, unique=True)):
        text = draw(texts)
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
        start = draw(st.integers(0, 9))
        passages.append(
            Passage(
                passage_id,
                draw(st.sampled_from([passage_id, "doc"])),
                text,
                title=draw(texts),
                start=start,
                end=start + len(text),
                headings=tuple(draw(st.lists(texts, max_size=2))),
                withheld=draw(st.sampled_from([(), ((cuts[0], cuts[1]),)])),
            )
        )
    names = ["train", "dev", "test", "unseen"]
    query_ids = draw(st.lists(ids, min_size=4, max_size=6, unique=True))
    splits = {}
    for position, name in enumerate(names):
        query = Query(
            query_ids[position],
            draw(texts),
            task=draw(st.sampled_from(["", "qa"])),
            origin=draw(st.sampled_from(["user", "mined"])),
            answers=tuple(draw(st.lists(texts.filter(str.strip), max_size=2))),
            history=tuple(draw(st.lists(texts.filter(str.strip), max_size=2))),
        )
        grades = {passages[0].passage_id: draw(st.integers(-1, 4))}
        splits[name] = Judged((query,), {query.query_id: grades})
    return Collection("c", tuple(passages), splits)


@given(collections())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back_alike(tmp_path: Path, collection: Collection) -> None:
    write_beir(collection, tmp_path / "c")
    assert read_beir(tmp_path / "c").collection == collection


def test_metadata_is_written_and_read_back(tmp_path: Path) -> None:
    metadata = {"source": "b.md", "year": 2020, "tags": ["x"], "nested": {"a": None}}
    passages = (
        Passage("p", "d", "abc def", "T", 3, 10, ("H",), ((0, 3),), metadata),
        Passage("q", "q", "abc", end=3, metadata={"year": 1}),
    )
    write_beir(Collection("toy", passages, {}), tmp_path)
    assert read_beir(tmp_path).collection.passages == passages
