"""The gradient report of negatives as one SVG file: a panel per figure, a bar per strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from bessemer.evaluation.formatting import clean, count, finite, percent, rate


@dataclass(frozen=True)
class Panel:
    key: str
    unit: str
    written: Callable[[Any], str] = rate


PANELS = (
    Panel("weight", "softmax share of the negative"),
    Panel("norm", "length of a gradient, mean"),
    Panel("variance", "squared distance from the mean"),
    Panel("signal", "length of the expected gradient"),
    Panel("shared", "signal² in the mean square", lambda value: percent(round(value, 4) + 0.0, 2)),
    Panel("suspected", "share above 0.95 × the positive", percent),
)
PER_LINE = 3
LABEL, PANEL, BAR = 130, 200, 120
TOP, HEAD, ROW, GAP = 58, 44, 24, 22
LONGEST = 100


def gradient_svg(rows: Sequence[Mapping[str, Any]], subject: str) -> str:
    """``rows``: dicts with ``strategy``, ``n_examples`` and the figures of PANELS; ``subject``: whose gradients.

    Bars begin at zero and share a scale within their panel; what is negative or unknown has a number and no bar.
    """
    line_height = HEAD + ROW * len(rows) + GAP
    width, height = LABEL + PANEL * PER_LINE, TOP + line_height * (len(PANELS) // PER_LINE)
    n_queries = count(rows[0]["n_examples"]) if rows else "0"
    parts = [
        _text(12, 24, f"What one negative of each strategy teaches, for the same {n_queries} queries", "title"),
        _text(12, 42, subject if len(subject) <= LONGEST else f"{subject[:LONGEST]}…", "unit"),
    ]
    for i, panel in enumerate(PANELS):
        line, column = divmod(i, PER_LINE)
        top = TOP + line_height * line
        if column == 0:
            parts += [_text(12, _middle(top, j), row["strategy"], "value") for j, row in enumerate(rows)]
        parts += _bars(panel, rows, LABEL + PANEL * column, top)
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
            'font-family="system-ui, sans-serif" font-size="12">'
            "<title>What the negatives of each strategy teach</title>"
            "<style>.title{{font-weight:600}}.value{{fill:#222}}.unit{{fill:#666;font-size:11px}}"
            ".bar{{fill:#4a6fa5}}.zero{{stroke:#999}}</style>"
            '<rect width="{w}" height="{h}" fill="#fff"/>{body}</svg>\n'
        ).format(w=width, h=height, body=Markup("").join(parts))
    )


def _bars(panel: Panel, rows: Sequence[Mapping[str, Any]], left: float, top: float) -> list[Markup]:
    values = [finite(row[panel.key]) for row in rows]
    largest = max((value for value in values if value is not None), default=0.0)
    parts = [_text(left, top + 14, panel.key, "title"), _text(left, top + 30, panel.unit, "unit")]
    for i, value in enumerate(values):
        length = BAR * max(0.0, value or 0.0) / largest if largest > 0 else 0.0
        bar = Markup('<rect class="bar" x="{}" y="{}" width="{:.1f}" height="14"/>')
        parts.append(bar.format(left, _middle(top, i) - 11, length))
        parts.append(_text(left + length + 6, _middle(top, i), panel.written(value), "value"))
    axis = Markup('<line class="zero" x1="{x}" x2="{x}" y1="{}" y2="{}"/>')
    return [*parts, axis.format(top + HEAD - 4, top + HEAD + ROW * len(rows) - 4, x=left)]


def _middle(top: float, row: int) -> float:
    """The base line of the text of a row."""
    return top + HEAD + ROW * row + 12


def _text(x: float, y: float, text: str, style: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(style, x, y, clean(text))
