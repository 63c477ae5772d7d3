"""Texts of others inside a prompt: between marks that they cannot forge."""

from __future__ import annotations

import hashlib


def between_marks(name: str, text: str) -> str:
    """``text`` between an opening and a closing mark with its hash: a text that closes the mark itself would have to
    hold its own hash."""
    identity = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"<{name} {identity}>\n{text}\n</{name} {identity}>"
