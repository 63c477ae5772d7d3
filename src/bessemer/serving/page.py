"""The page at /: markup, style and scripts of `web/` as one file that asks nobody but this service for anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

WEB = Path(__file__).parent / "web"
SCRIPTS = ("labels.js", "requests.js", "elements.js", "hits.js", "page.js")


@cache
def page() -> tuple[str, int, Mapping[str, str]]:
    """Content, status and headers. It is the same for everybody, so that it may be open: what is served is told by
    /info, to those who have a key."""
    style = _read("page.css")
    script = "\n" + "".join(map(_read, SCRIPTS))
    content = _read("page.html").replace("{{ style }}", style).replace("{{ script }}", script)
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return content, 200, headers


def _read(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def _hash(inline: str) -> str:
    """What a browser compares an inline element with."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode('utf-8')).digest()).decode('ascii')}'"
