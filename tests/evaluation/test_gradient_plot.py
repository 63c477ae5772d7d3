from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from bessemer.evaluation.gradient_plot import PANEL, PANELS, PER_LINE, gradient_svg

SVG = "{http://www.w3.org/2000/svg}"
CHARACTER = {"title": 7.5, "value": 7.0, "unit": 6.2}  # at most, on average over a text, in units


def row(strategy: str, **figures: float) -> dict[str, object]:
    whole = dict.fromkeys((panel.key for panel in PANELS), 1.0)
    return {"strategy": strategy, "n_examples": 128, **whole, **figures}


def drawn(*rows: dict[str, object], subject: str = "model on data") -> ElementTree.Element:
    return ElementTree.fromstring(gradient_svg(rows, subject))


def texts(tree: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in tree.iter(f"{SVG}text")]


def bars(tree: ElementTree.Element, key: str) -> list[float]:
    """Lengths of the bars of one panel, row by row."""
    found = [float(element.attrib["width"]) for element in tree.iter(f"{SVG}rect") if "class" in element.attrib]
    n_rows = len(found) // len(PANELS)
    start = [panel.key for panel in PANELS].index(key) * n_rows
    return found[start : start + n_rows]


def test_bars_share_a_scale_within_their_panel() -> None:
    tree = drawn(row("easy", norm=1.0, suspected=0.0), row("hard", norm=4.0, suspected=0.5))
    easy, hard = bars(tree, "norm")
    assert hard == pytest.approx(4 * easy)
    assert bars(tree, "suspected")[0] == 0
    assert {"easy", "hard", "50.0%", "4.00", "model on data"} <= set(texts(tree))


def test_what_is_negative_or_unknown_has_a_number_and_no_bar() -> None:
    tree = drawn(row("a", shared=-0.0012, variance=math.nan), row("b", shared=-0.00001, variance=math.nan))
    assert bars(tree, "shared") == bars(tree, "variance") == [0, 0]
    assert {"−0.12%", "0.00%", "–"} <= set(texts(tree))


def test_no_text_runs_into_the_next_panel_or_over_the_edge() -> None:
    long = row("same_document", norm=123456.0, variance=1.5e6, signal=0.000123)
    tree = drawn(long, row("top_k, no margin"), subject="a long name of a model " * 20)
    starts = [float(line.attrib["x1"]) for line in tree.iter(f"{SVG}line")][:PER_LINE]
    edge = float(tree.attrib["width"])
    assert edge == starts[-1] + PANEL
    for element in list(tree.iter(f"{SVG}text"))[2:]:
        left = float(element.attrib["x"])
        right = next(end for end in (*starts, edge) if end > left)
        assert left + CHARACTER[element.attrib["class"]] * len(element.text or "") <= right, element.text
    for heading in list(tree.iter(f"{SVG}text"))[:2]:
        assert CHARACTER[heading.attrib["class"]] * len(heading.text or "") <= edge


def test_control_characters_in_a_name_are_written_out() -> None:
    assert "a⟨U+0001⟩model" in texts(drawn(row("easy"), subject="a\x01model"))


def test_nothing_measured_is_still_a_picture() -> None:
    assert "weight" in texts(drawn())
