"""Charts of the report as inline SVG: no script, no colour without a second sign, styled by the page's CSS classes.

Every chart is 340 units wide, so that its text keeps its size from a phone to a three-column page. Callers hand in
finite numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bessemer.evaluation.formatting import clean, count, interval, number, signed

WIDTH = 340


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference with the ends of its 95% interval."""

    label: str
    difference: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether it tells a difference: a point, which is all that one group of queries gives, does not."""
        return self.low < self.high and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart; ``style`` is a CSS class of the page, ``errors`` half-lengths of error bars per point."""

    label: str
    points: tuple[tuple[float, float], ...]
    style: str = "s-other"
    errors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] to [start, end], linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, x = self.low, self.high, value
        if self.log:
            low, high, x = math.log(low), math.log(high), math.log(x)
        return self.start + (self.end - self.start) * ((x - low) / (high - low) if high > low else 0.5)


def ticks(low: float, high: float, n: int = 4) -> list[float]:
    """At most ``n + 1`` round values within [low, high], a step of 1, 2 or 5 times a power of ten apart."""
    if high <= low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / n))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power * n >= (high - low) * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def interval_plot(name: str, title: str, rows: Sequence[Interval], judged: str = "") -> Markup:
    """Differences with their intervals against zero, the numbers written beside each; ``judged`` is emphasised."""
    row_height, top = 40, 4
    height = top + row_height * len(rows) + 24
    scale = _around_zero(rows, 6, WIDTH - 6)
    bottom = height - 22
    parts = [_line(scale(0), top, scale(0), bottom, "zero")]
    for i, row in enumerate(rows):
        y = top + row_height * i
        numbers = f"{signed(row.difference)} {interval(row.low, row.high)}"
        group = Markup('<g class="judged">{}</g>') if row.label == judged else Markup("<g>{}</g>")
        drawn = _text(0, y + 13, _short(row.label), "label") + _text(WIDTH, y + 13, numbers, "value", anchor="end")
        parts.append(group.format(drawn + _interval(row, scale, y + 26, 4.5)))
    step_digits = _digits(ticks(scale.low, scale.high))
    parts += [
        _text(scale(t), height - 7, signed(t, step_digits) if t else "0", "tick", anchor="middle")
        for t in ticks(scale.low, scale.high)
        if 14 < scale(t) < WIDTH - 14
    ]
    description = "; ".join(f"{row.label} {signed(row.difference)} {interval(row.low, row.high)}" for row in rows)
    return _svg(name, title, description, height, parts)


def interval_mark(row: Interval, among: Sequence[Interval], floor: float | None = None) -> Markup:
    """One interval at the size of a word, on the scale shared by ``among``; ``floor`` is a dashed limit."""
    scale = _around_zero([*among, *([Interval("", floor, floor, floor)] if floor is not None else [])], 5, 115)
    parts = [_line(scale(0), 0, scale(0), 16, "zero")]
    if floor is not None:
        parts.append(_line(scale(floor), 0, scale(floor), 16, "floor"))
    parts.append(_interval(row, scale, 8, 3.5))
    return Markup('<svg class="mark" viewBox="0 0 120 16" width="120" height="16" aria-hidden="true">{}</svg>').format(
        Markup("").join(parts)
    )


def share_bar(kept: float, dropped: float) -> Markup:
    """The share kept of what came in, as a bar; the dropped rest is hatched by its outline."""
    total = kept + dropped
    width = 120 * kept / total if total > 0 else 0.0
    return Markup(
        '<svg class="mark" viewBox="0 0 120 12" width="120" height="12" aria-hidden="true">'
        '<rect class="dropped" x="0.5" y="1.5" width="119" height="9"/>'
        '<rect class="kept" x="0" y="1" width="{:.1f}" height="10"/></svg>'
    ).format(width)


def line_chart(
    name: str,
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    chosen: tuple[float, str] | None = None,
) -> Markup:
    """Lines with their names at their ends. ``chosen``: an x value marked by a vertical line, and its name.

    Needs at least one point; with ``log_x`` every x must be positive.
    """
    height, top, bottom, left = 216, 30, 180, 40
    right = WIDTH - (86 if len(series) > 1 else 12)
    xs = [x for line in series for x, _ in line.points]
    x_scale = Scale(min(xs), max(xs), left + 6, right, log_x)
    y_scale = _y_scale(series, bottom, top)
    y_ticks = ticks(y_scale.low, y_scale.high, 6)
    parts = [_line(left, y_scale(t), right, y_scale(t), "grid") for t in y_ticks]
    parts += [_text(left - 6, y_scale(t) + 4, number(t, _digits(y_ticks)), "tick", anchor="end") for t in y_ticks]
    x_ticks = _log_ticks(x_scale.low, x_scale.high) if log_x else ticks(x_scale.low, x_scale.high)
    x_digits = 0 if log_x else _digits(x_ticks)
    parts += [_text(x_scale(t), bottom + 16, number(t, x_digits), "tick", anchor="middle") for t in x_ticks]
    parts += [_text(0, 12, y_label, "axis"), _text(right, height - 4, x_label, "axis", anchor="end")]
    if chosen is not None:
        x = x_scale(chosen[0])
        anchor = "end" if x > (left + right) / 2 else "start"
        parts.append(_line(x, top - 4, x, bottom, "chosen"))
        parts.append(_text(x, top - 8, chosen[1], "label", anchor=anchor))
    for line in series:
        parts.append(_curve(line, x_scale, y_scale))
    if len(series) > 1:
        parts.append(_end_labels(series, x_scale, y_scale, (top, bottom)))
    description = "; ".join(
        f"{line.label}: {number(line.points[0][1])} at {count(line.points[0][0])}, "
        f"{number(line.points[-1][1])} at {count(line.points[-1][0])}"
        for line in series
    )
    return _svg(name, title, description, height, parts)


def histogram(
    name: str, title: str, edges: Sequence[float], counts: tuple[Sequence[float], Sequence[float]], highest: float
) -> Markup:
    """Two score histograms over each other, each as shares of its own total: negatives (grey), positives (coloured).

    ``edges`` has one entry more than each of ``counts = (negative, positive)``; ``highest`` is the share at the top
    of the axis, the same for charts that are to be compared.
    """
    height, top, bottom = 216, 30, 180
    x_scale = Scale(edges[0], edges[-1], 4, WIDTH - 4)
    y_scale = Scale(0, highest, bottom, top)
    parts = []
    for values, style in zip(counts, ("h-negative", "h-positive"), strict=True):
        total = sum(values) or 1.0
        filled = [i for i, value in enumerate(values) if value > 0]
        if not filled:
            continue
        path = [f"M{x_scale(edges[filled[0]]):.1f} {bottom}"]
        for i in range(filled[0], filled[-1] + 1):
            y = y_scale(values[i] / total)
            path.append(f"L{x_scale(edges[i]):.1f} {y:.1f}L{x_scale(edges[i + 1]):.1f} {y:.1f}")
        path.append(f"L{x_scale(edges[filled[-1] + 1]):.1f} {bottom}")
        parts.append(Markup('<path class="{}" d="{}"/>').format(style, "".join(path)))
    x_ticks = ticks(edges[0], edges[-1])
    parts.append(_line(4, bottom, WIDTH - 4, bottom, "axis-line"))
    parts += [
        _text(x_scale(t), bottom + 16, number(t, _digits(x_ticks)), "tick", anchor="middle")
        for t in x_ticks
        if 10 < x_scale(t) < WIDTH - 10
    ]
    negative, positive = (count(sum(values)) for values in counts)
    parts += [
        Markup('<rect class="h-negative" x="1" y="4" width="14" height="10"/>'),
        _text(20, 13, f"{negative} negatives", "label"),
        Markup('<rect class="h-positive" x="{}" y="4" width="14" height="10"/>').format(WIDTH - 15),
        _text(WIDTH - 20, 13, f"{positive} positives", "label", anchor="end"),
        _text(WIDTH, height - 4, "similarity of query and passage", "axis", anchor="end"),
    ]
    return _svg(name, title, f"{positive} positive and {negative} negative pairs", height, parts)


def _interval(row: Interval, scale: Scale, y: float, radius: float) -> Markup:
    """Whisker and dot; hollow unless the interval is clear."""
    whisker = _line(scale(row.low), y, scale(row.high), y, "whisker")
    return whisker + Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(
        "dot" if row.clear else "dot hollow", scale(row.difference), y, radius
    )


def _curve(line: Series, x_scale: Scale, y_scale: Scale) -> Markup:
    points = [(x_scale(x), y_scale(y)) for x, y in line.points]
    bars = [
        _line(x, y_scale(value - error), x, y_scale(value + error), f"bar {line.style}")
        for (x, _), (_, value), error in zip(points, line.points, line.errors, strict=False)
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = [
        Markup('<circle class="point {}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(line.style, x, y)
        for x, y in (points if len(points) <= 30 else [])
    ]
    return Markup("").join([*bars, Markup('<path class="curve {}" d="{}"/>').format(line.style, path), *dots])


def _end_labels(
    series: Sequence[Series], x_scale: Scale, y_scale: Scale, limits: tuple[float, float], gap: float = 14
) -> Markup:
    """Names at the right ends of the lines, pushed apart so that none covers another."""
    ends = sorted((y_scale(line.points[-1][1]), i) for i, line in enumerate(series))
    placed: list[float] = []
    for y, _ in ends:
        placed.append(max(y, placed[-1] + gap) if placed else max(y, limits[0]))
    overflow = max(0.0, placed[-1] - limits[1])
    placed = [y - overflow for y in placed]
    parts = []
    for (y, i), label_y in zip(ends, placed, strict=True):
        x = x_scale(series[i].points[-1][0])
        parts.append(_line(x + 4, y, x + 12, label_y, f"leader {series[i].style}"))
        parts.append(_text(x + 15, label_y + 4, _short(series[i].label, 12), f"label {series[i].style}"))
    return Markup("").join(parts)


def _y_scale(series: Sequence[Series], bottom: float, top: float) -> Scale:
    values: list[float] = []
    for line in series:
        errors = line.errors or (0.0,) * len(line.points)
        for (_, y), error in zip(line.points, errors, strict=True):
            values += [y - error, y + error]
    low, high = min(values), max(values)
    padding = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(low - padding, high + padding, bottom, top)


def _around_zero(rows: Sequence[Interval], start: float, end: float) -> Scale:
    low, high = min(0.0, *(row.low for row in rows)), max(0.0, *(row.high for row in rows))
    padding = 0.08 * (high - low) or 1.0
    return Scale(low - padding, high + padding, start, end)


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 3)]
    return [t for t in values if low <= t <= high] or [low]


def _digits(values: Sequence[float]) -> int:
    """Decimals that tell neighbouring ticks apart."""
    step = values[1] - values[0] if len(values) > 1 else values[0]
    return max(0, -math.floor(math.log10(abs(step)) + 1e-9)) if step else 0


def _short(label: str, length: int = 20) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(style, x1, y1, x2, y2)


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, clean(text)
    )


def _svg(name: str, title: str, description: str, height: float, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {} {}" aria-labelledby="{}-title {}-desc">'
        '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>{}</svg>'
    ).format(WIDTH, f"{height:g}", *[name] * 3, clean(title), name, clean(description), Markup("").join(parts))
