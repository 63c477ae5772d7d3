"""The page of a report is safe whatever the report holds, and fit for eyes and readers: what a browser makes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_pages import Page
from sample_report import sample_report

from bessemer.evaluation.report import render_report, write_report

needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
SCREENSHOT = Path(__file__).parents[2] / "scripts" / "screenshot"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></svg><svg onload=alert(1)>",
    "{{7*7}}{% raw %}{{ report }}",
    "javascript:alert(1)",
    "https://evil.example/x.png",
    "]]><!-- --!>",
)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(sample_report()))


def with_texts(text: str) -> dict[str, Any]:
    """The sample with ``text`` at every place where a foreign text can stand, names and keys included."""
    report = sample_report()
    evaluation = report["evaluation"]
    report["command"] = report["created"] = report["data"]["name"] = text
    report["data"]["warnings"] = [text]
    report["data"]["funnel"] = [{"stage": text, "kept": 1, "dropped": 1, "reasons": {text: 1}}]
    report["data"]["queries"] = {text: 3}
    report["negatives"]["strategy"] = text
    report["training"]["dev_pool"] = text
    report["settings"] = {text: {text: text}}
    report["versions"] = report["fingerprints"] = {text: text}
    evaluation["verdict"] = {"decision": text, "reason": text}
    evaluation["general"]["name"] = text
    evaluation["slices"][0]["slice"] = text
    evaluation["systems"][text] = {"measures": {text: 0.5}}
    evaluation["recall_curve"] = {text: [[1, 0.5], [10, 0.6]]}
    evaluation["separation"] = {"edges": [0, 1], text: {"positive": [1], "negative": [1], "auc": 0.5}}
    for comparison in evaluation["comparisons"]:
        comparison["treatment"] = text
    for example in evaluation["examples"]["won"]:
        example["query"] = text
        example["base"] = [{"passage_id": text, "text": text, "score": 0.5, "relevant": True}]
        example["relevant"] = [{"passage_id": "other", "text": text}]
    return report


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_never_becomes_markup(text: str) -> None:
    harmless, hostile = Page(render_report(with_texts("plain"))), Page(render_report(with_texts(text)))
    assert hostile.tags == harmless.tags
    assert hostile.text.count(text) >= 20


def test_invisible_characters_are_written_out() -> None:
    html = render_report(with_texts("a\x00b\x1b[31mc\x7f\x85d\u202egnp.exe\u2066\u200e\udc80\ud83de"))
    shown = "a⟨U+0000⟩b⟨U+001B⟩[31mc⟨U+007F⟩⟨U+0085⟩d⟨U+202E⟩gnp.exe⟨U+2066⟩⟨U+200E⟩⟨U+DC80⟩⟨U+D83D⟩e"
    assert shown in html
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)
    html.encode("utf-8")


def test_a_huge_passage_is_bounded_and_the_rest_counted() -> None:
    text = "词" * 1_000_000
    report = sample_report()
    plain = len(render_report(report))
    report["evaluation"]["examples"]["won"][0]["base"][0]["text"] = text
    html = render_report(report)
    assert len(html) < plain + 21_000
    assert "词" * 20_000 + " … [980,000 more characters are not shown]" in html
    assert "whole passage, 1,000,000 characters" in html


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    html = render_report(sample_report())
    assert ("meta", {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    }) in page.tags  # fmt: skip
    assert page.attributes("href") == ["data:,"]
    assert page.attributes("src") == page.attributes("style") == page.attributes("xlink:href") == []
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "img", "object", "embed", "form", "base", "use"}
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    assert not re.search(r"https?://|url\(|@import", html)


def test_headings_tables_charts_and_labels_are_accessible(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels[1:]))
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert set(page.attributes("for")) == {i for i in ids if i.startswith("p")}
    charts = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(charts) == 8  # differences, recall, two histograms, loss, dev, alpha on dev, alpha on the general set
    assert all(set((attrs["aria-labelledby"] or "").split()) <= set(ids) for attrs in charts)
    assert dict(page.tags)["html"]["lang"] == "en"


def test_colours_have_contrast_in_light_dark_and_print() -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text; relative luminance as defined there."""
    html = render_report(sample_report())
    schemes = [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", html, re.DOTALL)]
    assert len(schemes) == 3
    for scheme in schemes:
        for paper in ("paper", "tint"):
            for ink in ("ink", "muted", "base", "tuned", "lexical", "good"):
                light, dark = sorted((_luminance(scheme[paper]), _luminance(scheme[ink])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (paper, ink, scheme)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@needs_chromium
def test_a_browser_runs_nothing_and_shows_the_verdict(tmp_path: Path) -> None:
    attack = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    report = with_texts(attack)
    report["evaluation"]["verdict"] = {"decision": "ship", "reason": attack}
    write_report(report, tmp_path / "report.html")
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, timeout=120, check=True, text=True).stdout
    title = re.search("<title>(.*?)</title>", dom, re.DOTALL)[1]
    assert title.startswith("Ship – &lt;script&gt;")
    assert "<script" not in dom
    assert "<img" not in dom
    assert "finds the right passages better than the base model: ship it.</h1>" in dom


@needs_chromium
@pytest.mark.parametrize(
    ("flags", "paper", "badge"), [((), (253, 252, 249), (23, 97, 58)), (("--dark",), (22, 24, 27), (123, 211, 160))]
)
def test_pixels_of_the_phone_page(tmp_path: Path, flags: tuple[str, ...], paper: object, badge: object) -> None:
    image_module = pytest.importorskip("PIL.Image")
    page = write_report(sample_report(), tmp_path / "report.html")
    command = [str(SCREENSHOT), *flags, str(page), str(tmp_path / "report.png"), "390", "2400"]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    with image_module.open(tmp_path / "report.png") as picture:
        image = picture.convert("RGB")
    assert image.size == (390, 2400)
    edge = {image.getpixel((x, y)) for x in (385, 389) for y in range(2400)}
    assert edge == {paper}  # nothing is wider than the screen
    top = [image.getpixel((x, y)) for x in range(0, 390, 2) for y in range(60, 200, 2)]
    assert top.count(badge) > 300  # the badge, filled
