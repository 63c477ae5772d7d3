"""The tokens of every lexical lane, the same for passages and queries.

Text is NFKC-normalised (full-width letters and digits become ordinary ones), then read left to right:

- runs of Han characters go through jieba in search mode, which emits a long word and the words inside it
  (`长江大桥` -> `长江`, `大桥`, `长江大桥`), so that a query may name either;
- other Unicode words (letters, digits, combining marks) are lowercased; an English possessive `'s` is left out;
- numbers keep their decimal or version points (`3.14`, `2.0.1`, `v2.0.1` -> `2.0.1`) and lose their thousands commas
  (`1,000` -> `1000`);
- one letter with `++` or `#` is a name, too (`C++` -> `c++`, `c`; `F#` -> `f#`, `f`);
- code identifiers give themselves and their parts: `snake_case` -> `snake_case`, `snake`, `case`;
  `HTTPException` -> `httpexception`, `http`, `exception`. Camel-case parts under three characters are left out: `mRNAs`
  and `NumPy` must not flood the vocabulary with `m` and `py`.

No stop words and no stemming: idf weighs the former down, and the latter is right for one language at a time. Scripts
that write no spaces other than Han (Thai, Japanese kana) are not segmented.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from importlib.metadata import version

from bessemer.text import HAN

RULES = 2
"""One more whenever the rules above give other tokens for a text: indexes are told by it."""

_HAN = "\u3005\u3007" + HAN  # with the iteration mark and the zero, which stand inside words
# Python's \w leaves combining marks out, which would cut Hindi, Tamil or Arabic words at their vowel signs.
_MARKS = "".join(chr(code) for code in range(0x300, 0x1E00) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
_WORD = rf"(?:[^\W_{_HAN}]|[{_MARKS}])+"
_NUMBER = r"\d{1,3}(?:,\d{3})+|[vV]?\d+(?:\.\d+)+"
_LANGUAGE = r"[A-Za-z](?:\+\+|#)(?![A-Za-z_])"  # of programming; `C++17` is one, `a++b` is none
_TOKEN = re.compile(rf"[{_HAN}]+|{_NUMBER}|{_LANGUAGE}|{_WORD}(?:_+{_WORD})*(?:['’]s\b)?")
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z]{2})|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_HAN_START = re.compile(f"[{_HAN}]")
_MIN_CAMEL_PART = 3


@cache
def analyzer_version() -> str:
    """What the tokens of a text depend on beside the text. An index counts words by them for years."""
    return f"rules {RULES}, rjieba {version('rjieba')}, Unicode {unicodedata.unidata_version}"


def analyze(text: str) -> list[str]:
    """The tokens of ``text`` in reading order, repeats kept."""
    tokens: list[str] = []
    for raw in _TOKEN.findall(unicodedata.normalize("NFKC", text)):
        tokens.extend(_segment(raw) if _HAN_START.match(raw) else _expand(raw))
    return tokens


@lru_cache(maxsize=1 << 17)
def _expand(raw: str) -> tuple[str, ...]:
    if "," in raw or "." in raw:
        return (raw.replace(",", "").lstrip("vV"),)
    if raw.endswith(("+", "#")):
        return (raw.lower(), raw[0].lower())
    if raw.endswith(("'s", "’s")):
        raw = raw[:-2]
    names = [name for name in raw.split("_") if name]
    parts = [part for name in names for part in _name_and_parts(name)]
    return ("_".join(names).lower(), *parts) if len(names) > 1 else tuple(parts)


def _name_and_parts(name: str) -> list[str]:
    whole = name.lower()
    if not name.isascii() or name.isdigit() or name.islower():
        return [whole]
    parts = [part.lower() for part in _CAMEL.findall(name)]
    return [whole, *(part for part in parts if len(part) >= _MIN_CAMEL_PART and part != whole)]


def _segment(run: str) -> list[str]:
    import rjieba  # its dictionary takes a moment to load: only where there is Chinese

    words: list[str] = rjieba.cut_for_search(run)
    return words
