from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.errors import DataError, Problem
from bessemer.formats import Loaded, read_bge_jsonl, write_bge_jsonl
from bessemer.formats.jsonl import read_row
from bessemer.formats.lines import Fields, hash_id
from bessemer.formats.loaded import Notes
from bessemer.formats.rows import Row
from bessemer.types import HardNegatives, Judged, Passage, Query


def load(folder: Path, *rows: object, **arguments: object) -> Loaded:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read_bge_jsonl(path, **arguments)


def problems_of(folder: Path, *rows: object, **arguments: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(folder, *rows, **arguments)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize("neg", [{}, {"neg": None}, {"neg": []}, {"neg": [""]}, {"neg": [""], "neg_scores": [0.5]}])
def test_a_row_without_negatives(tmp_path: Path, neg: dict) -> None:
    loaded = load(tmp_path, {"query": "q", "pos": ["p"], **neg})
    assert loaded.collection.passages == (Passage(hash_id("p"), hash_id("p"), "p", end=1),)
    assert loaded.negatives == ()
    judged = loaded.collection.splits["train"]
    assert judged == Judged((Query(hash_id("q"), "q"),), {hash_id("q"): {hash_id("p"): 1}})


def test_scores_ids_and_columns_come_through(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        {
            "query": "q",
            "pos": ["a", "b"],
            "neg": ["c", "", "d"],
            "pos_scores": [0.9, 0.8],
            "neg_scores": [0.3, 0.2, 0.1],
            "teacher_scores": [4, 3, 2, 1, 0],
            "query_id": 7,
            "pos_ids": ["A", 2],
            "task": "qa",
            "prompt": "P: ",
            "type": "normal",
            "answers": ["yes", " "],
            "history": ["before"],
        },
    )
    c, d = hash_id("c"), hash_id("d")
    assert [passage.passage_id for passage in loaded.collection.passages] == ["A", "2", c, d]
    assert loaded.collection.splits["train"].queries == (Query("7", "q", "qa", answers=("yes",), history=("before",)),)
    assert loaded.negatives == (HardNegatives("7", (c, d), (0.3, 0.1), {"A": 0.9, "2": 0.8}, "given"),)
    assert loaded.teacher_scores == {"7": {"A": 4.0, "2": 3.0, c: 2.0, d: 0.0}}
    assert (loaded.prompts, loaded.types) == ({"7": "P: "}, {"7": "normal"})
    assert loaded.counts["empty_negatives"] == 1


def test_rows_of_one_query_merge_and_its_positives_are_never_negatives(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"query": "q", "pos": ["a"], "neg": ["b", "c"]}, {"query": "q", "pos": ["b"], "neg": ["a"]})
    query_id, a, b, c = (hash_id(text) for text in "qabc")
    assert loaded.collection.splits["train"].qrels == {query_id: {a: 1, b: 1}}
    (negatives,) = loaded.negatives
    assert negatives.passage_ids == (c,)
    assert all(math.isnan(score) for score in negatives.scores)
    assert negatives.positive_scores == {}
    assert loaded.counts["merged_rows"] == 1
    assert loaded.counts["negatives_that_are_positives"] == 2


def test_the_same_words_after_another_history_are_another_query(tmp_path: Path) -> None:
    rows = [{"query": "and then?", "history": [turn], "pos": [turn]} for turn in ("one", "two")]
    queries = load(tmp_path, *rows).collection.splits["train"].queries
    assert [query.query_id for query in queries] == [hash_id("one\nand then?"), hash_id("two\nand then?")]


def test_every_fault_is_reported_with_its_line(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "pos": "abc"},
        {"query": "q", "pos": []},
        {"query": "q"},
        {"query": None, "pos": ["a"]},
        {"query": " ", "pos": ["a"]},
        {"query": "q", "pos": ["a", ""]},
        {"query": "q", "pos": ["a"], "pos_scores": [1, 2], "neg": ["b"], "neg_scores": []},
        {"query": "q", "pos": ["a"], "neg": ["b"], "neg_ids": ["1", "2"], "teacher_scores": [1]},
        {"query": "q", "pos": ["a"], "answers": "yes"},
        {"query": "q", "pos": ["a"], "neg": [{"text": "b"}]},
        {"query": "q", "pos": ["a"], "query_id": ["x"]},
    ]
    assert problems_of(tmp_path, *rows) == [
        'rows.jsonl:1:pos: is a string where a list of strings belongs; write "pos": [...]',
        "rows.jsonl:2:pos: is missing or empty; give at least one positive, or teacher_scores",
        "rows.jsonl:3:pos: is missing or empty; give at least one positive, or teacher_scores",
        'rows.jsonl:4:query: is null, not a string; give "query": "..."',
        "rows.jsonl:5:query: is empty; give the query's text",
        "rows.jsonl:6:pos[1]: is empty; give the positive's text",
        "rows.jsonl:7:pos_scores: has 2 values for 1 texts of pos; give one value per text",
        "rows.jsonl:7:neg_scores: has 0 values for 1 texts of neg; give one value per text",
        "rows.jsonl:8:teacher_scores: has 1 values for 2 texts of pos and neg together; give one value per text",
        "rows.jsonl:8:neg_ids: has 2 values for 1 texts of neg; give one value per text",
        'rows.jsonl:9:answers: is a string where a list of strings belongs; write "answers": [...]',
        "rows.jsonl:10:neg[0]: is an object, not a string; give a list of strings",
        'rows.jsonl:11:query_id: is a list, not an id; give "query_id": "..."',
    ]


def test_ids_that_contradict_each_other(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "query_id": "1", "pos": ["a"], "pos_ids": ["p"]},
        {"query": "r", "query_id": "1", "pos": ["a"], "pos_ids": ["p"]},
        {"query": "s", "query_id": "2", "pos": ["b"], "pos_ids": ["p"]},
    ]
    assert problems_of(tmp_path, *rows) == [
        "rows.jsonl:2:query: query '1' has another query on line 1; give each its own query_id",
        "rows.jsonl:3:pos_ids: passage 'p' had another text before; give each text its own id",
    ]


def test_an_empty_file_and_too_few_rows(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == ["rows.jsonl:-:-: no rows; give at least one query with a positive"]
    row = {"query": "q", "pos": ["p"]}
    assert load(tmp_path, row, require=("train",)).counts == {"unsplit": 1}
    assert problems_of(tmp_path, row, require=("train", "test")) == [
        "rows.jsonl:-:-: too few rows for a test split; give more rows, or a BEIR folder with its own splits"
    ]


def test_chat_and_lrlm_rows_have_candidates_and_no_positive(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        {"query": "now", "history": ["one", "two"], "teacher_scores": [-1.5, -2.5], "task": "chat", "query_id": 0},
        {"query": "next", "pos": [], "neg": ["three"], "teacher_scores": [-3], "task": "lrlm", "query_id": 1},
    )
    one, two, three = (hash_id(text) for text in ("one", "two", "three"))
    assert loaded.teacher_scores == {"0": {one: -1.5, two: -2.5}, "1": {three: -3.0}}
    assert [query.history for query in loaded.collection.splits["train"].queries] == [(), ()]
    assert loaded.collection.splits["train"].qrels == {"0": {}, "1": {}}
    assert loaded.counts["no_gold_positive"] == 2
    assert loaded.counts["history_candidates"] == 1


def test_an_answer_is_not_the_passage_that_will_be_searched(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        {"query": "how long?", "pos": ["Two  YEARS"], "neg": ["three days"], "answers": ["two years"]},
        {"query": "how far?", "pos": ["It is two miles to the next village."], "answers": ["two miles"]},
        {"query": "how many?", "pos": ["The answer is seven."], "neg": ["seven"], "answers": ["seven"]},
    )
    assert sum(n for key, n in loaded.counts.items() if key.startswith("answer_as_passage")) == 1
    assert any("queries have their own answer for a relevant passage" in warning for warning in loaded.warnings)


def test_rows_for_a_teacher_need_candidates_and_no_positive(tmp_path: Path) -> None:
    def read(**row: object) -> Row | None:
        problems: list[Problem] = []
        row_read = read_row(Fields("rows.jsonl", 1, row, problems), Notes(), to_score=True)
        assert [str(problem) for problem in problems] == (
            [] if row_read else ["rows.jsonl:1:pos: is missing or empty; give at least one positive, or teacher_scores"]
        )
        return row_read

    chat = read(query="now", history=["one", " ", "two"], teacher_scores=["old"])
    assert chat is not None
    assert (chat.neg, chat.history, chat.teacher_scores) == (("one", "two"), (), None)
    found = read(query="and then?", history=["first"], neg=["a"])
    assert found is not None
    assert (found.neg, found.history) == (("a",), ("first",))
    assert read(query="q") is None
    # With the scores of the turns that hold words the row is read back.
    row = {"query": "now", "history": ["one", " ", "two"], "teacher_scores": [-1, -2], "query_id": 0}
    assert load(tmp_path, row).teacher_scores == {"0": {hash_id("one"): -1.0, hash_id("two"): -2.0}}


def test_the_file_that_we_write_holds_bge_columns_and_ids(tmp_path: Path) -> None:
    passages = [Passage("a", "d", "text a", title="T"), Passage("b", "d", "text b"), Passage("c", "e", "text c")]
    judged = Judged(
        (Query("1", "q one"), Query("2", "q two"), Query("3", "q three")),
        {"1": {"a": 2, "c": 0}, "2": {"b": 1}, "3": {"b": 0}},
    )
    mined = [HardNegatives("1", ("b", "c"), (0.5, 0.25), {"a": 0.75}, "top_k")]
    path = tmp_path / "out.jsonl"
    columns = {"prompt": {"1": "Ask: "}, "type": {"1": "normal", "3": "normal"}}
    assert write_bge_jsonl(path, judged, passages, mined, columns) == 2  # query 3 has no positive
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {
            "query": "q one",
            "pos": ["T\ntext a"],
            "neg": ["text b", "text c"],
            "pos_scores": [0.75],
            "neg_scores": [0.5, 0.25],
            "query_id": "1",
            "pos_ids": ["a"],
            "neg_ids": ["b", "c"],
            "prompt": "Ask: ",
            "type": "normal",
        },
        {
            "query": "q two",
            "pos": ["text b"],
            "neg": [""],
            "pos_scores": None,
            "neg_scores": [],
            "query_id": "2",
            "pos_ids": ["b"],
            "neg_ids": [],
        },
    ]


contents = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=3, max_size=6)


@given(contents, st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back_alike(tmp_path: Path, texts: list[str], data: st.DataObject) -> None:
    passages = [Passage(f"p{i}", f"p{i}", text, end=len(text)) for i, text in enumerate(texts)]
    score = st.floats(allow_nan=False, allow_infinity=False)
    queries, qrels, mined = [], {}, []
    for i in range(len(texts) - 2):
        queries.append(Query(f"q{i}", data.draw(contents)[0], task="qa"))
        qrels[f"q{i}"] = {f"p{i}": 1}
        negatives = data.draw(st.sampled_from([(), (f"p{i + 1}",), (f"p{i + 1}", f"p{i + 2}")]))
        if negatives:
            scores = tuple(data.draw(score) for _ in negatives)
            mined.append(HardNegatives(f"q{i}", negatives, scores, {f"p{i}": data.draw(score)}, "given"))
    path = tmp_path / "out.jsonl"
    write_bge_jsonl(path, Judged(tuple(queries), qrels), passages, mined)
    loaded = read_bge_jsonl(path)
    splits = loaded.collection.splits.values()
    assert {query for judged in splits for query in judged.queries} == set(queries)
    assert {query_id: dict(grades) for judged in splits for query_id, grades in judged.qrels.items()} == qrels
    assert list(loaded.negatives) == mined
    used = {key for item in mined for key in item.passage_ids} | {key for grades in qrels.values() for key in grades}
    assert set(loaded.collection.passages) == {passage for passage in passages if passage.passage_id in used}
