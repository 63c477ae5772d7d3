from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bessemer.errors import ConfigError, DataError
from bessemer.questions.generate import Draft
from bessemer.questions.review import Decision, n_without_draft, read_review, reviewed, write_review
from bessemer.types import Passage

PASSAGES = {
    "p1": Passage("p1", "d1", "=HYPERLINK(0) is not run. 水泵, \"quoted\"\nsecond line", headings=("Pump",)),
    "p2": Passage("p2", "d2", "another"),
}  # fmt: skip
DRAFTS = [
    Draft("How often, in an hour?", ("p1",), "d1", "train", "twelve"),
    Draft('=cmd|"calc"', ("p1",), "d1", "test"),
    Draft("水泵多久启动一次？", ("p1", "p2"), "d1", "train"),
    Draft("nobody looks at me", ("p2",), "d2", "dev"),
]


def rewrite(file: Path, change: Callable[[int, Mapping[str, str]], Mapping[str, str]]) -> None:
    """As a person does, in a spreadsheet."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(change(i, row) for i, row in enumerate(rows))


def test_accept_edit_reject(tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    write_review(DRAFTS, PASSAGES, file)
    verdicts = [("Accept ", ""), ("reject", ""), ("edit", "水泵每小时可以启动几次？"), ("", "")]
    rewrite(file, lambda i, row: {**row, "decision": verdicts[i][0], "edited question": verdicts[i][1]})
    found = reviewed(DRAFTS, read_review(file))
    assert [c.text for c in found.kept] == ["How often, in an hour?", "水泵每小时可以启动几次？"]
    assert found.kept[1].passage_ids == ("p1", "p2")
    assert [(item.text, item.reason) for item in found.dropped] == [
        ('=cmd|"calc"', "rejected"),
        ("nobody looks at me", "nobody has decided"),
    ]


def test_what_a_person_sees(tmp_path: Path) -> None:
    write_review(DRAFTS, PASSAGES, tmp_path / "review.csv")
    with (tmp_path / "review.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["question"] == "How often, in an hour?"
    assert rows[0]["passage"] == PASSAGES["p1"].indexed_text
    assert rows[2]["passage_id"] == "p1 p2"
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


def test_a_passage_of_many_pages_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    draft = Draft("How long is it?", ("p1",), "d1", "train")
    write_review([draft], {"p1": Passage("p1", "d1", "long " * 40_000)}, file)
    assert read_review(file) == {draft.query_id: Decision("")}


def test_an_edit_that_looks_like_a_formula_comes_back_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    write_review(DRAFTS, PASSAGES, file)
    rewrite(file, lambda _, row: {**row, "decision": "edit", "edited question": "'-20 degrees: does the pump start?"})
    assert {c.text for c in reviewed(DRAFTS, read_review(file)).kept} == {"-20 degrees: does the pump start?"}


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    write_review(DRAFTS, PASSAGES, file)
    verdicts = ["maybe", "accept", "edit", "yes"]
    rewrite(file, lambda i, row: {**row, "decision": verdicts[i]})
    with pytest.raises(DataError) as caught:
        read_review(file)
    assert [(p.field, p.message) for p in caught.value.problems] == [
        ("decision", "'maybe' is no decision"),
        ("edited question", "is empty"),
        ("decision", "'yes' is no decision"),
    ]
    assert all(p.line for p in caught.value.problems)


def test_a_question_in_two_rows(tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    write_review([*DRAFTS[:2], DRAFTS[0]], PASSAGES, file)
    with pytest.raises(DataError, match=rf"review\.csv:10:id: {DRAFTS[0].query_id} stands above already"):
        read_review(file)


def test_an_accepted_question_that_was_edited_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    write_review(DRAFTS, PASSAGES, file)
    edits = ["How often per hour?", '=cmd|"calc"', "", ""]  # the second is the question itself
    rewrite(file, lambda i, row: {**row, "decision": "accept", "edited question": edits[i]})
    with pytest.raises(DataError) as caught:
        read_review(file)
    (problem,) = caught.value.problems
    assert (problem.field, problem.fix) == ("edited question", "write edit as the decision, or clear it")


def test_questions_that_a_person_wants_and_that_are_gone_are_counted() -> None:
    decisions = {draft.query_id: Decision("accept") for draft in DRAFTS[:2]}
    decisions |= {DRAFTS[2].query_id: Decision("reject"), DRAFTS[3].query_id: Decision("edit", "another")}
    assert n_without_draft(DRAFTS, decisions) == 0
    assert n_without_draft(DRAFTS[:1], decisions) == 2


def test_a_review_is_whole_or_not_there(tmp_path: Path) -> None:
    lost = Draft("of a passage that is not there", ("p9",), "d9", "train")
    with pytest.raises(KeyError):
        write_review([*DRAFTS, lost], PASSAGES, tmp_path / "review.csv")
    assert not list(tmp_path.iterdir())


def test_a_file_that_lost_its_columns(tmp_path: Path) -> None:
    (tmp_path / "review.csv").write_text("a;b\n1;2\n")
    with pytest.raises(DataError, match=r"review\.csv:1:id: the column is missing"):
        read_review(tmp_path / "review.csv")


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "review.csv").write_bytes("id,decision\n水泵".encode("gbk"))
    with pytest.raises(DataError, match="save it as CSV in UTF-8"):
        read_review(tmp_path / "review.csv")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "review.csv").write_text("mine")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_review(DRAFTS, PASSAGES, tmp_path / "review.csv")
    assert (tmp_path / "review.csv").read_text() == "mine"
