"""Normal form of extracted text. Runs before a document is final, so that every offset refers to clean text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from bessemer.text import HAN

# C0 and C1 controls but tab and newline; zero-width, soft-hyphen, bidirectional and tag characters; the byte-order
# mark. Invisible text is where instructions hide; the joiners U+200C and U+200D carry meaning and stay.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f]")
_LIGATURE = re.compile("[\ufb00-\ufb06]")
_TRAILING = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)  # looked for once per run, not from each of its spaces
_BLANK_LINES = re.compile(r"\n{3,}")
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=]{32,}")


def clean_text(text: str) -> str:
    """Unicode NFC, plain line ends and spaces, no control or invisible characters, at most one blank line in a row.

    Ideographic spaces (U+3000) and indentation stay; so do letters, punctuation and case.
    """
    text = _LINE_END.sub("\n", text)
    text = _SPACE.sub(" ", text)
    text = _INVISIBLE.sub("", text)
    text = _LIGATURE.sub(lambda match: unicodedata.normalize("NFKC", match.group()), text)
    text = _DATA_URI.sub("", unicodedata.normalize("NFC", text))
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text)).strip("\n")


def strip_page_furniture(pages: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Remove headers and footers: lines at the edge of a page that come back on most pages, and bare page numbers.

    A line counts as the same when only its digits differ; three pages are needed to judge. A bare number is a page
    number when it keeps its distance to the page's own number on most pages. Returns the pages and the lines removed.
    """
    edges = [{page.split("\n")[index].strip() for index in _border(page.split("\n"))} for page in pages]
    counts = Counter(shape for edge in edges for shape in {_shape(line) for line in edge})
    enough = max(3, 0.6 * len(pages))
    repeated = {shape for shape, count in counts.items() if count >= enough and re.search(r"[^\W\d_]", shape)}
    offsets = Counter(
        offset for index, edge in enumerate(edges) for offset in {_page_number(line, index) for line in edge}
    )
    numbered = {offset for offset, count in offsets.items() if offset is not None and count >= enough}
    cleaned, removed = [], []
    for page_index, page in enumerate(pages):
        lines = page.split("\n")
        border, kept = _border(lines), []
        for index, line in enumerate(lines):
            text = line.strip()
            if index in border and (_shape(text) in repeated or _page_number(text, page_index) in numbered):
                removed.append(text)
            else:
                kept.append(line)
        cleaned.append("\n".join(kept))
    return cleaned, tuple(removed)


def _border(lines: Sequence[str]) -> set[int]:
    """Indices of the first two and last two lines that are not blank."""
    filled = [index for index, line in enumerate(lines) if line.strip()]
    return set(filled[:2] + filled[-2:])


def _shape(line: str) -> str:
    return re.sub(r"\d+", "0", line).casefold()


def _page_number(line: str, page_index: int) -> int | None:
    """How far the number that a line consists of is from the page's index; None for other lines."""
    match = re.fullmatch(
        r"(?:page\s*|第\s*|[-–—]\s*)?(\d{1,4})(?:\s*[-–—页])?(?:\s*(?:/|of)\s*\d{1,4})?", line, re.IGNORECASE
    )
    return int(match[1]) - page_index if match else None


def join_lines(page: str) -> str:
    """Undo the line breaks of a laid-out page: a full line that ends no sentence goes on in the next one.

    Short lines (headings, table rows, addresses) keep their break; words hyphenated at a line end are joined.
    """
    lines = [line.strip() for line in page.split("\n")]
    lengths = sorted(len(line) for line in lines if line)
    if not lengths:
        return ""
    full = 0.7 * lengths[int(0.9 * (len(lengths) - 1))]
    joined: list[str] = []
    previous = ""  # the last line as it was laid out, whatever has been joined in front of it
    for line in lines:
        if joined and line and _goes_on(previous, line, full):
            joined[-1] = _join(joined[-1], line)
        else:
            joined.append(line)
        previous = line
    return "\n".join(joined)


def _goes_on(previous: str, line: str, full: float) -> bool:
    if len(previous) < max(full, 20) or previous[-1] in ".!?:;。！？：；":
        return False
    return re.match(r"[-•●▪◦*☐☑☒]|\(?\d+[.)]\s", line) is None


def _join(left: str, right: str) -> str:
    if re.match(r"[^\W\d_]-", left[-2:]) and right[:1].islower():
        return left[:-1] + right
    glued = re.match(f"[{HAN}，、。（）「」]", left[-1:]) and re.match(f"[{HAN}，、。（）「」]", right)
    return left + ("" if glued else " ") + right
