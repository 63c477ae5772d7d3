"""The tokens of the lexical lanes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.search.analyzer import RULES, analyze


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The Company's profit", ["the", "company", "profit"]),
        ("HTTPException", ["httpexception", "http", "exception"]),
        ("snake_case __init__", ["snake_case", "snake", "case", "init"]),
        ("mRNAs and NumPy", ["mrnas", "rna", "and", "numpy", "num"]),
        ("np.linalg.norm", ["np", "linalg", "norm"]),
        ("3.14 and 1,000,000 in v2", ["3.14", "and", "1000000", "in", "v2"]),
        ("v2.0.1, V3.1 or 2.0.1? rev2.0", ["2.0.1", "3.1", "or", "2.0.1", "rev2", "0"]),
        (
            "C++ and C#, not C; C++17 (i++) a++b x#y F#.",
            ["c++", "c", "and", "c#", "c", "not", "c", "c++", "c", "17", "i++", "i", "a", "b", "x", "y", "f#", "f"],
        ),
        ("café naïve", ["café", "naïve"]),
        ("cafe\u0301", ["café"]),  # a combining accent is the same word
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs belong to the word
        ("ＦＵＬＬ　１２", ["full", "12"]),
        ("南京市长江大桥", ["南京", "京市", "南京市", "长江", "大桥", "长江大桥"]),
        ("用C#语言和C++17", ["用", "c#", "c", "语言", "和", "c++", "c", "17"]),
        ("用FastAPI框架", ["用", "fastapi", "fast", "api", "框架"]),
        ("!?… — \x00", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert analyze(text) == tokens


def test_other_tokens_are_other_rules() -> None:
    """Where a change of the rules breaks this: raise RULES, by which indexes notice it, and write both down here."""
    texts = "NumPy's HTTP_Error v2.0.1 1,000 × 3.14 don’t 第3章，GPU服务器 々〇 Ünïted naïve_é ﬁ Ⅷ ½ кот हिन्दी タワー"
    digest = hashlib.sha256(" ".join(analyze(texts)).encode()).hexdigest()[:16]
    assert (RULES, digest) == (2, "ee3048e29c41a32e")


@given(st.text(max_size=200))
def test_any_text_gives_clean_tokens(text: str) -> None:
    for token in analyze(text):
        assert token
        assert not any(character.isspace() for character in token)
