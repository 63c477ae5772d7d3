"""Plain text out of one line of Markdown."""

from __future__ import annotations

from bessemer.text import code_spans, plain_inline, sentence_spans


def test_marks_go_and_words_stay() -> None:
    text = '**Use** [`uv`](https://x.y "tool") _or_ *pip*, ![a picture](x.png) and\n__never__ ***both***.'
    assert plain_inline(text) == "Use uv or pip, a picture and never both."


def test_marks_within_words_are_none() -> None:
    assert plain_inline("age__gte, 2*3*4, 2**3 and snake_case_name") == "age__gte, 2*3*4, 2**3 and snake_case_name"


def test_chinese_emphasis_needs_no_spaces() -> None:
    assert plain_inline("这是**重点**内容，也是*强调*。") == "这是重点内容，也是强调。"


def test_half_of_an_emphasis_goes() -> None:
    assert plain_inline("**Note: switch it off.") == "Note: switch it off."


def test_code_stays_as_it_is() -> None:
    assert plain_inline("**`__init__`** and `` a`*b*`c `` of `\\#1` \\#2") == "__init__ and a`*b*`c of \\#1 #2"
    assert plain_inline("[x](`y`) `z`\0") == "x z"


def test_code_begins_and_ends_with_as_many_ticks() -> None:
    assert list(code_spans("`a` ``b`c`` ``d`")) == [(0, 3, 1), (4, 11, 2)]
    assert list(code_spans("``a` b`")) == [(3, 7, 1)]


def test_runs_of_ticks_and_stops_are_read_in_one_pass() -> None:
    ticks = "a".join("`" * length for length in range(1, 800))
    assert list(code_spans(ticks)) == []
    assert plain_inline(ticks) == "a" * 798
    stops = "A" + "." * 200_000 + "b"
    assert sentence_spans(f"One?! Two... {stops} c.") == [(0, 5), (6, 12), (13, 200_018)]
