from __future__ import annotations

import pytest

from bessemer.questions.alike import repeated


def test_repeated_is_what_all_pairs_say() -> None:
    """Every text of up to seven of seven words against some others."""
    words = ["red", "blue", "green", "old", "new", "pump", "motor"]
    texts = [" ".join(words[i] for i in range(7) if number >> i & 1) for number in range(1, 128)]
    others = texts[5::11]
    expected = {}
    for i, text in enumerate(texts):
        own = set(text.split())
        best = max(len(own & set(other.split())) / len(own | set(other.split())) for other in others)
        if best >= 0.8:
            expected[i] = best
    assert repeated(texts, others) == pytest.approx(expected)
    assert len(expected) > len(others)


def test_case_marks_and_order_do_not_count_and_twins_among_the_texts_do_not_matter() -> None:
    texts = ["How often may a pump start?", "how often may a pump start", "what is a pump", ""]
    assert repeated(texts, ["MAY a pump start: how often"]) == {0: 1.0, 1: 1.0}
    assert repeated(texts, []) == {}
    assert repeated([], texts) == {}
    assert repeated(["水泵多久可以启动一次"], ["水泵,多久可以启动一次?"]) == {0: 1.0}
