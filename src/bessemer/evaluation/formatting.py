"""How the report writes numbers and hostile text. Nothing here decides anything; it only formats."""

from __future__ import annotations

import math
import re
from typing import Any

MISSING = "–"
MINUS = "\u2212"
MAX_CHARACTERS = 20_000
"""No single text in the page is longer; what is left out is counted in its place."""

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, without tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls: they can make text read as another text
    "\u2028\u2029\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff]"  # lone surrogates cannot be encoded
)


def clean(value: object) -> str:
    """``value`` as text that is safe to show once escaped: invisible controls as ⟨U+202E⟩, bounded length."""
    if value is None:
        return MISSING
    text = str(value)
    hidden = len(text) - MAX_CHARACTERS
    text = _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text[:MAX_CHARACTERS].replace("\r\n", "\n"))
    return text if hidden <= 0 else f"{text} … [{count(hidden)} more characters are not shown]"


def finite(value: Any) -> float | None:
    """``value`` as a float, or None for everything that is not a finite number (None, NaN, text, booleans)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond the range of floats
        return None


def number(value: Any, digits: int = 3) -> str:
    x = finite(value)
    return MISSING if x is None else f"{x:,.{digits}f}".replace("-", MINUS)


def signed(value: Any, digits: int = 3) -> str:
    x = finite(value)
    return MISSING if x is None else f"{x:+.{digits}f}".replace("-", MINUS)


def interval(low: Any, high: Any, digits: int = 3) -> str:
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def percent(share: Any, digits: int = 1) -> str:
    x = finite(share)
    return MISSING if x is None else f"{number(100 * x, digits)}%"


def percent_of_base(difference: Any, base: Any) -> str:
    """The relative gain in percent, as practitioners quote it; undefined for a base of zero."""
    change, start = finite(difference), finite(base)
    return MISSING if change is None or not start else f"{signed(100 * change / start, 1)}%"


def p_value(p: Any) -> str:
    x = finite(p)
    if x is None:
        return MISSING
    return "p < 0.001" if x < 0.001 else f"p = {x:.3f}"


def count(value: Any) -> str:
    """An integer with thousands separators; other numbers as they are."""
    x = finite(value)
    return MISSING if x is None else (f"{x:,.0f}" if x == int(x) else f"{x:,.2f}").replace("-", MINUS)


def rate(value: Any) -> str:
    """Three significant digits at least: 0.123, 45.6, 1,234."""
    x = finite(value)
    return MISSING if x is None else number(x, max(0, 2 - math.floor(math.log10(abs(x))) if x else 0))


def duration(seconds: Any) -> str:
    x = finite(seconds)
    if x is None:
        return MISSING
    if x < 60:
        return f"{x:.1f} s"
    minutes, rest = divmod(round(x), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def n_bytes(value: Any) -> str:
    x = finite(value)
    if x is None:
        return MISSING
    return f"{x / 2**30:.2f} GiB" if x >= 2**30 else f"{x / 2**20:.1f} MiB"
