"""The figures of the report, with their titles and captions, from report.json's dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from bessemer.evaluation import plots
from bessemer.evaluation.formatting import MISSING, count, duration, finite, n_bytes, number, percent, rate
from bessemer.evaluation.plots import Series
from bessemer.evaluation.report_sections import Json, View, interval_of, mapping, primary_comparison, records
from bessemer.measures import PRIMARY

STYLES = {name: f"s-{name}" for name in ("base", "tuned", "bm25", "hybrid-base", "hybrid-tuned", "hybrid-weighted")}


def differences(evaluation: Json) -> Markup | None:
    """The interval plot of every system against the baseline of the primary comparison."""
    primary = mapping(primary_comparison(evaluation))
    baseline = primary.get("baseline")
    rows = [
        row
        for comparison in records(evaluation.get("comparisons"))
        if comparison.get("measure") == PRIMARY and comparison.get("baseline") == baseline
        if (row := interval_of(str(comparison.get("treatment")), comparison)) is not None
    ]
    rows.sort(key=lambda row: -row.difference)
    judged = str(primary.get("treatment"))
    return plots.interval_plot("differences", f"{PRIMARY}: difference to {baseline}", rows, judged) if rows else None


def quality_figures(evaluation: Json) -> list[View]:
    """Recall curves, and the score histograms before and after."""
    series = [
        Series(str(name), points, STYLES.get(name, "s-other"))
        for name, curve in mapping(evaluation.get("recall_curve")).items()
        if (points := tuple((x, y) for x, y in _points(curve) if x > 0))
    ]
    figures = _separation_figures(mapping(evaluation.get("separation")))
    if series:
        title = "Recall within the first k passages"
        plot = plots.line_chart("recall", title, series, x_label="k (log scale)", y_label="recall", log_x=True)
        caption = "The share of a query's relevant passages that are among the first k, averaged over queries."
        figures.insert(0, _figure(title, plot, caption))
    return figures


def _separation_figures(separation: Json) -> list[View]:
    """One histogram per system, on the same axes; none where edges and counts do not fit each other."""
    given = [finite(edge) for edge in separation.get("edges") or []]
    edges = [edge for edge in given if edge is not None]
    if len(edges) != len(given) or any(a >= b for a, b in pairwise(edges)):
        return []
    counts = {
        name: (negative, positive)
        for name, part in separation.items()
        if isinstance(part, Mapping)
        and len(negative := _counts(part.get("negative"))) == len(positive := _counts(part.get("positive")))
        and len(positive) == len(edges) - 1
    }
    highest = max((x / (sum(part) or 1) for both in counts.values() for part in both for x in part), default=0.0)
    explained = "Heights are shares of each group. AUC: the chance that a positive scores above a negative."
    figures = []
    for i, (name, both) in enumerate(counts.items()):
        title = f"Scores of {name}: AUC {number(separation[name].get('auc'))}"
        plot = plots.histogram(f"scores-{i}", title, edges, both, 1.05 * highest or 1.0)
        figures.append(_figure(title, plot, explained if i == 0 else str(separation.get("note") or "")))
    return figures


def training(report: Json) -> View | None:
    """Facts and curves of the training, and how the share of tuned weights was chosen."""
    part = mapping(report.get("training"))
    if not part:
        return None
    interpolation = mapping(part.get("interpolation"))
    alpha = finite(interpolation.get("alpha"))
    facts = [
        ("examples", count(part.get("examples"))),
        ("steps", count(part.get("steps"))),
        ("epochs", count(part.get("epochs"))),
        ("time", duration(part.get("seconds"))),
        ("examples per second", rate(part.get("examples_per_second"))),
        ("final loss", number(part.get("final_loss"))),
        ("padding (token waste)", percent(part.get("token_waste"))),
        ("peak memory", n_bytes(part.get("peak_memory_bytes"))),
        ("chosen step", count(part.get("best_step"))),
        ("share of tuned weights, α", MISSING if alpha is None else f"{alpha:g}"),
    ]
    return {
        "facts": facts,
        "figures": [*_curves(part), *_alpha_figures(interpolation)],
        "notes": [note for note in (part.get("dev_pool"), _reason(interpolation)) if note],
    }


def _reason(interpolation: Json) -> str:
    reason = interpolation.get("reason")
    return f"Share of tuned weights: {reason}." if reason else ""


def _curves(part: Json) -> Iterator[View]:
    best = finite(part.get("best_step"))
    chosen = None if best is None else (best, f"chosen: step {count(best)}")
    ending = "Training stopped early: dev had ceased to improve." if part.get("stopped_early") else ""
    for name, key, column, title, caption in (
        ("loss", "loss_curve", "loss", "Training loss", ""),
        ("dev", "dev_curve", PRIMARY, f"{PRIMARY} on the dev pool", ending),
    ):
        rows = records(part.get(key))
        points = tuple(_points([(row.get("step"), row.get(column)) for row in rows]))
        if not points:
            continue
        marked = chosen if chosen and points[0][0] <= chosen[0] <= points[-1][0] else None
        style = "s-base" if name == "loss" else "s-tuned"
        plot = plots.line_chart(
            name, title, [Series(name, points, style)], x_label="step", y_label=column, chosen=marked
        )
        yield _figure(title, plot, caption + _left_out(len(rows) - len(points)))


def _alpha_figures(interpolation: Json) -> Iterator[View]:
    """Dev and general quality by alpha, the share of tuned weights in the mix with the base's (LM-Cocktail)."""
    given = [*records([interpolation.get("base")]), *records(interpolation.get("candidates"))]
    tried = {alpha: row for row in given if (alpha := finite(row.get("alpha"))) is not None}
    chosen = finite(interpolation.get("alpha"))
    bars = "α = 0: the base. Bars: ± 1 standard error of the difference to the best."
    for key, title, caption in (
        ("dev", f"Dev {PRIMARY} by share of tuned weights, α", bars),
        ("general", f"General set: {PRIMARY} by α", "What each mix keeps outside the domain."),
    ):
        values = [(alpha, y) for alpha, row in sorted(tried.items()) if (y := finite(row.get(key))) is not None]
        if not values:
            continue
        errors = [finite(tried[alpha].get("standard_error")) or 0.0 for alpha, _ in values] if key == "dev" else []
        inside = chosen is not None and values[0][0] <= chosen <= values[-1][0]
        plot = plots.line_chart(
            f"alpha-{key}",
            title,
            [Series(key, tuple(values), "s-tuned", tuple(errors))],
            x_label="α",
            y_label=PRIMARY,
            chosen=(chosen, f"chosen: α = {chosen:g}") if chosen is not None and inside else None,
        )
        yield _figure(title, plot, caption)


def _figure(title: str, plot: Markup, caption: str) -> View:
    return {"title": title, "plot": plot, "caption": caption}


def _points(pairs: Any) -> list[tuple[float, float]]:
    """The pairs whose both numbers are finite, by x."""
    found = [(finite(x), finite(y)) for x, y in pairs or []]
    return sorted((x, y) for x, y in found if x is not None and y is not None)


def _counts(values: Sequence[Any] | None) -> list[float]:
    return [finite(value) or 0.0 for value in values or []]


def _left_out(n: int) -> str:
    return f" {count(n)} values were no finite numbers and are not drawn." if n else ""
