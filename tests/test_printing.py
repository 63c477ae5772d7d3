from __future__ import annotations

import pytest

from bessemer.printing import fold, printable


@pytest.mark.parametrize(
    "unsafe", ["\x00", "\x07", "\x08", "\r", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u200f", "\ud800"]
)
def test_what_moves_the_cursor_or_reorders_text_is_replaced(unsafe: str) -> None:
    assert printable(f"a{unsafe}[31mb") == "a\ufffd[31mb"


def test_text_in_any_language_stays() -> None:
    text = "Größe\tnaïve\n中文，检索。 العربية 🙂"
    assert printable(text) == text


def test_fold_breaks_between_words() -> None:
    assert fold("one two three four", 9, indent="  ") == "  one two\n  three\n  four"


def test_fold_counts_two_columns_for_a_chinese_character_and_breaks_between_any_two() -> None:
    assert fold("检索模型好", 4) == "检索\n模型\n好"
    assert fold("用model检索", 8) == "用model\n检索"


def test_fold_of_nothing_and_of_a_word_that_is_too_long() -> None:
    assert fold("", 10) == ""
    assert fold("a unbreakable b", 5) == "a\nunbreakable\nb"


def test_fold_keeps_the_lines_of_a_text() -> None:
    assert fold("one [1].\n\ntwo three\n- four", 10, indent="  ") == "  one [1].\n\n  two\n  three\n  - four"
