"""What a reader of one file format hands back, and how it says no."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_CHARACTERS = 64 * 1024 * 1024
"""Most characters of text that one file may yield; what is compressed cannot grow beyond it."""


@dataclass(frozen=True, slots=True)
class Content:
    """The text of one file; headings of formats that have them stand as Markdown ``#`` lines.

    ``removed`` maps a reason to the pieces taken out on the way (repeated page headers, for instance).
    """

    text: str
    title: str = ""
    removed: dict[str, tuple[str, ...]] = field(default_factory=dict)


class UnreadableError(Exception):
    """The file cannot be used; the message is the reason, with what to do about it."""
