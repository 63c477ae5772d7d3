"""What models really send, and what must come of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.llm.parse import Asked, parse_questions

TWO = (Asked("What is A?"), Asked("Why B?"))


@pytest.mark.parametrize(
    "answer",
    [
        '["What is A?", "Why B?"]',
        '[{"question": "What is A?"}, {"question": "Why B?", "evidence": ""}]',
        '{"question": "What is A?"}\n{"question": "Why B?"}',
        '{"questions": ["What is A?", "Why B?"]}',
        '{"questions": [{"query": "What is A?"}, {"query": "Why B?"}], "count": 2}',
        '```json\n["What is A?", "Why B?"]\n```',
        '```\n{"question": "What is A?"}\n{"question": "Why B?"}\n```\nI hope this helps!',
        'Here are 2 questions:\n\n["What is A?", "Why B?"]\n\nLet me know if you need more [or fewer].',
        'Here are the questions [as asked]: ["What is A?", "Why B?"]',
        '["Here are 2 questions:", "What is A?", "Why B?"]',
        '["1. What is A?", "2) Why B?"]',
        '["Q1: What is A?", "Question 2: Why B?"]',
        '["What is A?", "Why B?", "what is a?"]',
        "What is A?|Why B?",
        "Here are 2 questions: What is A? | Why B?",
        "Here are 2 questions:\nWhat is A?|Why B?|",
        "Two questions | What is A? | Why B?",
        "As requested, here are 2 questions | What is A? | Why B?",
        "The two questions are: | What is A? | Why B?",
        "2 questions: What is A? | Why B?",
        "2 questions: What is A?\nWhy B?",
        "Questions about the passage:\nWhat is A?\nWhy B?",
        "两个问题：What is A?|Why B?",
        '["Two questions:", "2 questions: What is A?", "Why B?"]',
        "1. What is A?\n2. Why B?",
        "Here are 2 questions:\n- What is A?\n- Why B?\nThese cover the passage.",
        '```json\n["What is A?", "Why B?"]',
        '[\n  "What is A?",\n  "Why\nB?"\n]',
    ],
)
def test_the_same_two_questions(answer: str) -> None:
    assert parse_questions(answer).questions == TWO


@pytest.mark.parametrize(
    "answer",
    [
        '["What is A?", "Why B?", "How does',
        '["What is A?", "Why B?",',
        '{"question": "What is A?"}\n{"question": "Why B?"}\n{"question": "How',
        '[{"question": "What is A?"}, {"question": "Why B?"}, {"q',
    ],
)
def test_what_breaks_off_keeps_its_whole_items(answer: str) -> None:
    parsed = parse_questions(answer)
    assert parsed.questions == TWO
    assert parsed.is_cut
    assert not parse_questions('["What is A?", "Why B?"]').is_cut


def test_a_cut_object_in_a_cut_list() -> None:
    parsed = parse_questions('{"questions": [{"question": "What is A?", "evidence": "A is"}, {"question": "Why')
    assert parsed.questions == (Asked("What is A?", "A is"),)


def test_evidence() -> None:
    assert parse_questions('[{"question": "甲是什么？", "evidence": " 甲是乙。"}]').questions == (
        Asked("甲是什么？", "甲是乙。"),
    )
    assert parse_questions('[{"question": "What is A?", "evidence": ["A is", "B", 3]}]').questions == (
        Asked("What is A?", "A is\nB"),
    )


@pytest.mark.parametrize(
    "answer",
    [
        "", "[]", "{}", "I cannot help with that.", "Here are 2 questions", "```json\n```", "[1, 2]", "null", "[[[[[",
        "Here are 2 questions:", '["Here are 2 questions about the text."]', '["以下是两个问题："]', '[""]', '["?"]',
        '["Sure! Below are the questions:"]', '{"error": "overloaded"}', "Two questions | The two questions are: |",
    ],
)  # fmt: skip
def test_no_question_at_all(answer: str) -> None:
    assert parse_questions(answer).questions == ()


@pytest.mark.parametrize(
    "question",
    [
        "Here in Berlin, which offices are open?", "okapi bm25 parameters", "The following year, what changed?",
        "以下哪个端口是默认的？", "好的密码有多长？", "these are what kind of bees?", "I have lost my key: what now?",
        "Below freezing, does the pump run?", "What is the difference between two questions?", "20 questions rules",
        "Two questions a day: is that the limit?", "questions about refunds", "search queries", "security questions",
        "As requested by customs, what is declared?", "What does f(x): g mean?",
    ],
)  # fmt: skip
def test_questions_that_only_begin_like_a_preamble(question: str) -> None:
    parsed = parse_questions(f'["{question}"]')
    assert [asked.text for asked in parsed.questions] == [question]


@pytest.mark.parametrize(
    "question",
    ["802.11ac channel width", "24.04 upgrade path", "3.5 mm jack", "-20 degrees: does it start?", "10:30 departure"],
)
def test_a_number_is_no_mark_of_a_list(question: str) -> None:
    parsed = parse_questions(f'["{question}", "1. {question} again"]')
    assert [asked.text for asked in parsed.questions] == [question, f"{question} again"]


@pytest.mark.parametrize(
    "answer",
    [
        '["What is X used for?',
        '[{"question": "What is X?", "evidence": "Is it so?',
        '[\n  {\n    "question": "What is X?",\n    "evidence": "Is it so?',
        'Here are 2 questions:\n["What is X used for?',
        '```json\n{"questions": ["What is X?',
    ],
)
def test_what_breaks_off_in_its_first_item_is_no_question(answer: str) -> None:
    parsed = parse_questions(answer)
    assert parsed.questions == ()
    assert parsed.is_cut


def test_lines_are_read_up_to_json_that_breaks_off() -> None:
    assert parse_questions('What is A[0]?\nWhy B?\n["How does it?').questions == (
        Asked("What is A[0]?"),
        Asked("Why B?"),
    )


def test_lines_beside_questions_are_refused() -> None:
    parsed = parse_questions("Here are 2:\n\n- What is A?\n---\nname the pump\n- Why B?")
    assert parsed.questions == TWO
    reason = "ends in no question mark, as others do"
    assert parsed.refused == (("Here are 2:", reason), ("name the pump", reason))
    assert parse_questions("name the pump\nname the valve").refused == ()


def test_half_a_surrogate_pair_is_replaced() -> None:
    answer = r'[{"question": "Is \ud83d on?", "evidence": "\ud83d"}, "Is \ud83d\ude00 on?", "\ude00"]'
    parsed = parse_questions(answer)
    assert parsed.questions == (
        Asked("Is \ufffd on?", "\ufffd"),
        Asked("Is 😀 on?"),
    )
    assert parsed.refused == (("\ufffd", "empty"),)


def test_what_is_refused_is_told() -> None:
    parsed = parse_questions('["Here are 3 questions:", "What is A?", "What is A?", " "]')
    assert parsed.refused == (
        ("Here are 3 questions:", "a sentence about the questions"),
        ("What is A?", "twice in one answer"),
        ("", "empty"),
    )


PIECES = (*'[]{}",:|?`\\\n aA1Ω问\ud83d\ude00', r"\ud83d", r"\ude00", '{"question": "', '", "evidence": "')


@given(st.lists(st.sampled_from(PIECES), max_size=80).map("".join))
def test_no_answer_breaks_it(answer: str) -> None:
    parsed = parse_questions(answer)
    for asked in parsed.questions:
        assert asked.text.strip() == asked.text != ""
        assert (asked.text + asked.evidence).encode()
    for text, _ in parsed.refused:
        text.encode()


def test_deep_nesting_is_no_stack() -> None:
    parse_questions("[" * 100_000)
    parse_questions('{"a":' * 100_000)
