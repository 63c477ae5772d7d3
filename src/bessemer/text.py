"""Words, sentences and normal forms of plain text, for spaced scripts and for Chinese. Standard library only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"

_UNIT = re.compile(rf"[{HAN}]|[^\W_{HAN}]+(?:['’\-.][^\W_{HAN}]+)*")
_HAN = re.compile(f"[{HAN}]")
# A sentence ends behind Chinese closing punctuation at once, behind Latin punctuation only before white space.
_END = re.compile(r"[。！？；…]+[”’」』）】]*|(?<![.!?])[.!?]+[\"'”’)\]*_`]*(?=\s)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|Mr|Mrs|Ms|Dr|Prof|Inc|Ltd|Corp|Co|No|Nos|Fig|Eq|Sec|Art|approx|al|St|Jr|Sr|[A-Z])\.)$"
)
_LETTER = rf"[^\W{HAN}]"  # Chinese has no spaces between words, so that emphasis begins and ends anywhere
_MARKUP = (  # links and images, strong emphasis, emphasis, with what is kept of them
    (re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)"), r"\1"),
    (re.compile(rf"(?<!{_LETTER})(?:\*\*|__)(?=\S)|(?<=\S)(?:\*\*|__)(?!{_LETTER})"), ""),
    (re.compile(rf"(?<!\*)(?<!{_LETTER})\*(?=\S)([^*\n]+)(?<=\S)\*(?!\*)(?!{_LETTER})"), r"\1"),
    (re.compile(r"(?<!\w)_([^_\n]+)_(?!\w)"), r"\1"),
)


def units(text: str) -> list[str]:
    """Case-folded words; every Chinese character is a unit of its own."""
    return [unit.casefold() for unit in _UNIT.findall(text)]


def unit_spans(text: str) -> list[tuple[str, int, int]]:
    """The units of ``normal_form`` with their half-open spans in ``text``."""
    return [(unicodedata.normalize("NFKC", match.group()).casefold(), *match.span()) for match in _UNIT.finditer(text)]


def n_han(text: str) -> int:
    return len(_HAN.findall(text))


def is_han(text: str) -> bool:
    """Whether most units of the text are Chinese characters."""
    return 2 * n_han(text) > len(_UNIT.findall(text))


def n_words(text: str) -> float:
    """Length in words; two Chinese characters count as one word, about their ratio in translations."""
    han = n_han(text)
    return len(_UNIT.findall(text)) - han / 2


def normal_form(text: str) -> str:
    """The form under which two texts count as the same: NFKC, case-folded, words only, single spaces."""
    return " ".join(units(unicodedata.normalize("NFKC", text)))


def folded(text: str) -> str:
    """The text without what case and white space say: a looser form would join texts that a tokenizer tells apart."""
    return " ".join(text.casefold().split())


def whole_characters(text: str) -> str:
    """The text as UTF-8 can hold it: halves of a surrogate pair are joined, a lone one becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Half-open spans of the sentences in ``text[start:end]``, without the white space around them."""
    end = len(text) if end is None else end
    spans: list[tuple[int, int]] = []
    position = start
    for match in _END.finditer(text, start, end):
        if match.group()[0] == "." and _ABBREVIATION.search(text, max(start, match.start() - 8), match.start() + 1):
            continue
        if match.group()[0] in ".!?" and _continues(text, match.end(), end):
            continue
        _append(spans, text, position, match.end())
        position = match.end()
    _append(spans, text, position, end)
    return spans


def _continues(text: str, position: int, end: int) -> bool:
    """Whether a lower-case letter follows on the same line: then the stop was no sentence end."""
    while position < end and text[position] in " \t":
        position += 1
    return position < end and text[position].islower()


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    start, end = trim(text, start, end)
    if start < end:
        spans.append((start, end))


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def code_spans(text: str) -> Iterator[tuple[int, int, int]]:
    """(start, end, ticks at either end) of Markdown's inline code: a run of backticks up to the next one as long."""
    runs = [match.span() for match in re.finditer("`+", text)]
    partners: list[int] = []  # of the runs from the last to the first: where the next one as long ends, or -1
    following: dict[int, int] = {}
    for start, end in reversed(runs):
        partners.append(following.get(end - start, -1))
        following[end - start] = end
    position = 0
    for (start, end), partner in zip(runs, reversed(partners), strict=True):
        if start >= position and partner >= 0:
            yield start, partner, end - start
            position = partner


def plain_inline(text: str) -> str:
    """One line of Markdown as a reader sees it: link and image texts, no emphasis or code marks, single spaces.

    Code stays as it is; so do marks within a word, which are no emphasis: ``age__gte``, ``2*3*4``.
    """
    text = text.replace("\0", "")
    codes: list[str] = []
    parts: list[str] = []
    position = 0
    for start, end, n_ticks in code_spans(text):
        parts += [text[position:start], f"\0{len(codes)}\0"]
        codes.append(text[start + n_ticks : end - n_ticks].strip())
        position = end
    prose = "".join((*parts, text[position:])).replace("`", "").replace("\\#", "#")
    for pattern, kept in _MARKUP:
        prose = pattern.sub(kept, prose)
    return " ".join(re.sub("\0(\\d+)\0", lambda match: codes[int(match[1])], prose).split())
