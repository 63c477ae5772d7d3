"""Text on its way to a terminal."""

from __future__ import annotations

import re

# C0 and C1 controls but newline and tab, and the marks that reorder or hide text (Unicode TR 36, "bidi spoofing").
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` without control characters: a document must not move the cursor or colour the screen."""
    return _UNSAFE.sub("\ufffd", text)
