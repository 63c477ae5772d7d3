from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bessemer.errors import DataError
from bessemer.questions.own import OwnQuestions, find_quote, own_questions
from bessemer.types import Document, Dropped, Passage

TEXT = "Refunds take five days.\n\nShipping is **free** over\n50 euro.\n\nCall us at night."
SPANS = {"p1": (0, 23), "p2": (25, 59), "p3": (61, 78)}


def library() -> tuple[list[Document], list[Passage], dict[str, str]]:
    documents = [Document("help/a.md", TEXT), Document("b.md", "Tea is sold out.")]
    documents += [Document("c.md", "Coffee."), Document("d.md", "Call us at night.")]
    passages = [Passage(name, "help/a.md", TEXT[s:e], "", s, e) for name, (s, e) in SPANS.items()]
    passages += [Passage("p4", "b.md", "Tea is sold out.", "", 0, 16), Passage("p5", "c.md", "Coffee.", "", 0, 7)]
    return documents, passages, {"help/a.md": "train", "b.md": "test", "c.md": "dev", "d.md": "train"}


def ask(tmp_path: Path, *rows: Any) -> OwnQuestions:
    return read(tmp_path, rows, *library(), left_out=[dropped("p6", "Call us at night.", "p3")])


def read(tmp_path: Path, rows: Sequence[Any], *corpus: Any, left_out: Sequence[Dropped] = ()) -> OwnQuestions:
    file = tmp_path / "queries.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return own_questions(file, *corpus, left_out)


def dropped(passage_id: str, text: str, kept_id: str) -> Dropped:
    return Dropped(passage_id, "dedup", "near-duplicate", text, 0.9, kept_id)


def qrels(result: OwnQuestions, split: str) -> dict[str, dict[str, int]]:
    judged = result.splits[split]
    return {query.text: dict(judged.qrels[query.query_id]) for query in judged.queries}


def test_passage_file_and_quote(tmp_path: Path) -> None:
    result = ask(
        tmp_path,
        {"query": "how long", "passage_id": "p1", "answers": ["five days"]},
        {"query": "what is here", "source": "help/a.md"},
        {
            "query": "free shipping?",
            "source": "help/a.md",
            "quote": "Shipping is **free** over 50 euro",
            "relevance": 2,
        },
        {"query": "both", "source": "./help/a.md", "quote": "50 euro.\n\nCall us"},
        {"query": "no tea", "source": "b.md", "quote": "tea IS sold, out"},
    )
    assert qrels(result, "train") == {
        "how long": {"p1": 1},
        "what is here": {"p1": 1, "p2": 1, "p3": 1},
        "free shipping?": {"p2": 2},
        "both": {"p2": 1, "p3": 1},
    }
    assert qrels(result, "test") == {"no tea": {"p4": 1}}
    first = result.splits["train"].queries[0]
    assert (first.origin, first.answers) == ("user", ("five days",))
    assert result.dropped == ()


def test_quote_in_a_dropped_duplicate_finds_the_kept_one(tmp_path: Path) -> None:
    result = ask(tmp_path, {"query": "when to call", "source": "d.md", "quote": "Call us at night"})
    assert qrels(result, "train") == {"when to call": {"p3": 1}}


SHOP = (
    "# Shop\n\nOpen daily.\n\n## Refund policy\n\nIn cash.\n\n### *Cards*\n\nBy post.\n\n## Gifts\n\nNo Refund policy."
)


def shop() -> tuple[list[Document], list[Passage], dict[str, str]]:
    """The heading that is quoted stands in the passage of another document, too, of another split."""
    refund = ("Shop", "Refund policy")
    places = {"Open daily.": ("Shop",), "In cash.": refund, "By post.": (*refund, "Cards")}
    places |= {"No Refund policy.": ("Shop", "Gifts")}
    passages = [
        Passage(f"s{i}", "shop.md", text, "", SHOP.index(text), SHOP.index(text) + len(text), headings)
        for i, (text, headings) in enumerate(places.items())
    ]
    log = "The Refund policy was changed."
    documents = [Document("shop.md", SHOP), Document("log.md", log)]
    return documents, [*passages, Passage("l0", "log.md", log, "", 0, len(log))], {"shop.md": "train", "log.md": "test"}


def test_a_quoted_heading_stands_for_its_section_in_its_own_document(tmp_path: Path) -> None:
    rows = [
        {"query": "how is it paid back", "source": "shop.md", "quote": "Refund policy"},
        {"query": "and cards", "source": "shop.md", "quote": "cards"},
        {"query": "all of it", "source": "shop.md", "quote": "Shop"},
        {"query": "gifts?", "source": "shop.md", "quote": "No Refund policy"},
        {"query": "what changed", "source": "log.md", "quote": "Refund policy"},
    ]
    result = read(tmp_path, rows, *shop())
    assert qrels(result, "train") == {
        "how is it paid back": {"s1": 1, "s2": 1},
        "and cards": {"s2": 1},
        "all of it": {"s0": 1, "s1": 1, "s2": 1, "s3": 1},
        "gifts?": {"s3": 1},
    }
    assert qrels(result, "test") == {"what changed": {"l0": 1}}


def test_a_quote_in_text_that_became_no_passage(tmp_path: Path) -> None:
    """It stands for its next place; where there is none, for no passage of another document."""
    documents = [Document("a.md", "Tea.\n\nMore Tea."), Document("b.md", "More.")]
    passages = [Passage("a0", "a.md", "More Tea.", "", 6, 15)]
    rows = [
        {"query": "what is there", "source": "a.md", "quote": "Tea."},
        {"query": "more?", "source": "b.md", "quote": "More"},
    ]
    result = read(tmp_path, rows, documents, passages, {"a.md": "train"})
    assert qrels(result, "train") == {"what is there": {"a0": 1}}
    assert [item.text for item in result.dropped] == ["more?"]
    assert result.dropped[0].reason.startswith("quote is in text that became no passage")


def test_a_quote_in_a_duplicate_of_a_near_duplicate(tmp_path: Path) -> None:
    """Of the passages that were kept instead, one has the words of the quote."""
    documents = [Document("old.md", "Wait 5 days. Call at noon."), Document("new.md", "Wait 5 days! Call at night.")]
    passages = [Passage("n0", "new.md", documents[1].text, "", 0, 27)]
    left_out = [dropped("o1", documents[0].text, "o0"), dropped("o0", "Wait 5 days. Call at noon.", "n0")]
    rows = [
        {"query": "how long", "source": "old.md", "quote": "wait 5 days"},
        {"query": "when", "source": "old.md", "quote": "Call at noon"},
    ]
    result = read(tmp_path, rows, documents, passages, {"new.md": "dev"}, left_out=left_out)
    assert qrels(result, "dev") == {"how long": {"n0": 1}}
    assert [item.text for item in result.dropped] == ["when"]


def test_a_source_is_looked_up_as_it_is_and_then_as_a_path(tmp_path: Path) -> None:
    documents = [Document("a.jsonl#x\\y", "Tea."), Document("help/a.md", "Coffee.")]
    passages = [Passage(f"p{i}", one.doc_id, one.text, "", 0, len(one.text)) for i, one in enumerate(documents)]
    rows = [{"query": source, "source": source} for source in ("a.jsonl#x\\y", "help\\a.md", ".\\help\\a.md")]
    found = qrels(read(tmp_path, rows, documents, passages, {one.doc_id: "train" for one in documents}), "train")
    assert list(found.values()) == [{"p0": 1}, {"p1": 1}, {"p1": 1}]


def test_lines_of_one_query_are_joined_and_leaks_go_to_seen(tmp_path: Path) -> None:
    result = ask(
        tmp_path,
        {"query": "train and test", "passage_id": "p1"},
        {"query": "train and test", "passage_id": "p4"},
        {"query": "dev and test", "passage_id": ["p4", "p5"]},
    )
    assert qrels(result, "seen") == {"train and test": {"p1": 1, "p4": 1}}
    assert qrels(result, "test") == {"dev and test": {"p4": 1, "p5": 1}}
    assert qrels(result, "train") == qrels(result, "dev") == {}


def test_what_cannot_be_resolved_is_listed(tmp_path: Path) -> None:
    result = ask(
        tmp_path,
        {"query": "good", "passage_id": "p1"},
        {"query": "a", "passage_id": "p9"},
        {"query": "b", "source": "none.md"},
        {"query": "c", "source": "b.md", "quote": "no such words"},
    )
    assert [(item.id.rsplit(":")[-1], item.reason) for item in result.dropped] == [
        ("2", "passage_id 'p9' is not in the corpus"),
        ("3", "source 'none.md' is not among the documents read"),
        ("4", "quote is not in 'b.md'"),
    ]


def test_broken_lines_are_all_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        ask(
            tmp_path,
            "{broken",
            {"passage_id": "p1"},
            {"query": " ", "passage_id": "p1"},
            {"query": "x"},
            {"query": "x", "passage_id": "p1", "relevance": "high"},
            {"query": "x", "passage_id": "p1", "answers": "text"},
        )
    places = [(problem.line, problem.field) for problem in caught.value.problems]
    assert places == [(1, ""), (2, "query"), (3, "query"), (4, "source"), (5, "relevance"), (6, "answers")]


def test_nothing_resolved_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'p9' is not in the corpus"):
        ask(tmp_path, {"query": "a", "passage_id": "p9"})
    with pytest.raises(DataError, match="holds no queries"):
        ask(tmp_path, "")


def test_find_quote() -> None:
    assert find_quote("a b  c", "b c") == [(2, 6)]
    assert find_quote("b c a b  c", "b c") == [(0, 3)]  # as it is, where it stands so
    assert find_quote("b. b", "b") == [(0, 1), (3, 4)]
    assert find_quote("Die „Größe“ zählt. Größe zählt?", "größe zählt") == [(5, 17), (19, 30)]
    assert find_quote("今天，天气很好。", "今天天气") == [(0, 5)]
    assert find_quote("最高 500 元", "最高 ５００ 元") == find_quote("最高 ５００ 元", "最高 500 元") == [(0, 8)]
    assert find_quote("A café here", "CAFE\u0301") == [(2, 6)]  # in decomposed form
    assert find_quote("abc", "d") == find_quote("abc", "...") == []


def told(query: str, passage_id: str, helpful: bool, time: str | None = None) -> dict[str, Any]:
    return {"query": query, "passage_id": passage_id, "helpful": helpful} | ({"time": time} if time else {})


def test_feedback_where_the_newest_judgement_counts(tmp_path: Path) -> None:
    result = ask(
        tmp_path,
        told("How long?", "p1", False, "2026-03-02T09:00:00+01:00"),
        told("how  LONG?", "p1", True, "2026-03-02T08:30:00Z"),  # half an hour later
        told("How long?", "p1", False, "2026-03-01T23:00:00Z"),
        told("How long?", "p2", False, "2026-03-05"),
        told("no tea", "p4", True),
        told("no tea", "p4", True),
        told("coffee", "p5", True, "2026-01-01"),
        told("coffee", "p5", False, "2026-01-02"),
    )
    assert qrels(result, "train") == {"How long?": {"p1": 1, "p2": 0}}
    assert qrels(result, "test") == {"no tea": {"p4": 1}}
    assert qrels(result, "dev") == {}
    assert [(item.text, item.reason) for item in result.dropped] == [("coffee", "none of its passages is relevant")]


def test_mistakes_in_feedback(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        ask(
            tmp_path,
            {"query": "a", "passage_id": "p1", "helpful": "yes"},
            told("b", "p1", True, "yesterday"),
            {**told("c", "p1", True), "relevance": 2},
        )
    assert [(p.line, p.field) for p in caught.value.problems] == [(1, "helpful"), (2, "time"), (3, "relevance")]
