"""Text on its way to a terminal."""

from __future__ import annotations

import re
import unicodedata

# C0 and C1 controls but newline and tab, and the marks that reorder or hide text (Unicode TR 36, "bidi spoofing").
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` without control characters: a document must not move the cursor or colour the screen."""
    return _UNSAFE.sub("\ufffd", text)


def fold(text: str, width: int, indent: str = "") -> str:
    """Lines of at most ``width`` columns; Chinese characters take two, and a line may break between any of them. Line
    ends of the text stay."""
    return "\n".join(_fold_line(line, width, indent) for line in text.split("\n"))


def _fold_line(text: str, width: int, indent: str) -> str:
    lines, line, used = [], "", 0
    for piece in re.findall(
        r"\s+|[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]|[^\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+", text
    ):
        columns = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in piece)
        if used and used + columns > width - len(indent):
            lines.append(line.rstrip())
            line, used = "", 0
        if line or not piece.isspace():
            line, used = line + piece, used + columns
    return "\n".join(indent + part for part in (*lines, line.rstrip()) if part)
