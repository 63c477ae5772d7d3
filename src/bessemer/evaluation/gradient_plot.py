"""The gradient report of negatives as one SVG file: a panel per figure, a bar per strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

PANELS = (
    ("weight", "weight of the negative, s_n"),
    ("norm", "mean length of a gradient"),
    ("variance", "variance of gradients"),
    ("suspected", "suspected false negatives"),
)
LABEL, PANEL, ROW, TOP = 150, 170, 26, 46


def gradient_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """``rows``: dicts with ``strategy`` and the figures of PANELS; bars share a scale within their panel."""
    width, height = LABEL + PANEL * len(PANELS) + 10, TOP + ROW * len(rows) + 14
    parts = [Markup('<rect width="{}" height="{}" fill="#fff"/>').format(width, height)]
    for i, row in enumerate(rows):
        parts.append(_text(10, TOP + ROW * i + 17, row["strategy"], "#222"))
    for column, (key, title) in enumerate(PANELS):
        left = LABEL + PANEL * column
        parts.append(_text(left, 26, title, "#555"))
        largest = max((float(row[key]) for row in rows), default=0.0) or 1.0
        for i, row in enumerate(rows):
            value = float(row[key])
            length = (PANEL - 70) * value / largest
            y = TOP + ROW * i
            bar = '<rect x="{}" y="{}" width="{:.1f}" height="16" fill="#4a6fa5"/>'
            parts.append(Markup(bar).format(left, y + 4, length))
            parts.append(_text(left + length + 6, y + 17, f"{value:.3g}", "#222"))
    body = Markup("").join(parts)
    frame = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img">'
        "<title>Gradients by strategy</title>{body}</svg>\n"
    )
    return str(Markup(frame).format(w=width, h=height, body=body))


def _text(x: float, y: float, text: str, colour: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{}" fill="{}">{}</text>').format(x, y, colour, escape(text))
