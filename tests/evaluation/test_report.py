"""The HTML report: what it shows is what the dict holds, and nothing in the dict can act on the page."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sample_report import sample_report

from bessemer.errors import ConfigError
from bessemer.evaluation.report import render_report, write_report

NAN = float("nan")
VOID = {"meta", "link", "input", "br", "rect", "line", "circle", "path"}


class Page(HTMLParser):
    """Tags with their attributes, the shown text, and the texts of table rows; fails on unbalanced tags."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, head: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == head)

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name]


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


def test_the_verdict_stands_first_with_its_numbers(page: Page) -> None:
    # 0.7272 - 0.6370 = 0.0902, which is 14.16% of 0.6370; the interval is 0.0902 - 0.0186 and + 1.04 * 0.0186.
    top = page.text[: page.text.index("All systems")]
    assert "ship The tuned model finds the right passages better than the base model: ship it." in top
    for shown in ("0.637 → 0.727", "+0.090 [+0.072, +0.110]", "+14.2%", "653 queries; p < 0.001"):
        assert shown in top
    assert "41 test queries share no word" in top
    assert "12 dev queries were carved from train" in top


@pytest.mark.parametrize(
    ("decision", "high", "general", "headline"),
    [
        ("ship", 0.02, 0.0, "The tuned model finds the right passages better than the base model: ship it."),
        ("keep base", -0.01, 0.0, "The tuned model finds the right passages worse than the base model: keep the base"),
        ("keep base", 0.02, -0.02, "The tuned model loses too much outside its domain: keep the base model."),
        ("not enough evidence", 0.02, 0.0, "These queries do not prove that the tuned model is better than the base"),
    ],
)
def test_every_decision_has_its_sentence_and_badge(decision: str, high: float, general: float, headline: str) -> None:
    report = sample_report()
    evaluation = report["evaluation"]
    evaluation["verdict"] = {"decision": decision, "reason": "Because."}
    evaluation["general"]["difference"] = general  # the margin of the sample is 0.01
    for row in evaluation["comparisons"]:
        row["ci_high"] = high
    page = Page(render_report(report))
    assert f"{decision} {headline}" in page.text
    badge = {"ship": "ship", "keep base": "keep", "not enough evidence": "unsure"}[decision]
    assert ("div", {"class": f"badge {badge}"}) in page.tags


def test_the_table_holds_the_numbers_of_the_dict(page: Page) -> None:
    assert page.row("system") == [
        "system", "nDCG@10", "R@1", "R@5", "R@10", "R@100", "RR@10", "AP@100", "queries/s",
    ]  # fmt: skip
    assert page.row("base") == ["base", "0.637", "0.476", "0.747", "0.829", "0.943", "0.577", "0.581", "312"]
    assert page.row("tuned")[1] == "0.727+0.090 [+0.072, +0.110]"
    assert page.row("bm25")[1] == "0.552−0.085 [−0.104, −0.066]"  # 0.5518 - 0.6370 = -0.0852
    assert page.row("nDCG@10") == ["nDCG@10", "0.5518", "0.6370", "0.7272", "0.6473", "0.7137"]
    assert page.row("query length: short")[:6] == [
        "query length: short",
        "201",
        "0.531",
        "0.640",
        "+0.109",
        "[+0.073, +0.145]",
    ]
    assert page.row("clean")[:3] == ["clean", "4,740", "611"]
    assert page.row("clean")[4] == "too short 602, not text 9"
    assert page.row("finetune.learning_rate") == ["finetune.learning_rate", "5e-05"]


def test_the_best_of_each_column_is_marked() -> None:
    html = render_report(sample_report())
    marked = re.findall(r'class="value best">([\d.]+)<', html)
    assert marked[:7] == [
        "0.727",
        "0.568",
        "0.830",
        "0.896",
        "0.673",
        "0.676",
        "0.971",
    ]  # six of tuned, R@100 of hybrid-tuned


def test_facts_of_training_general_set_and_examples(page: Page) -> None:
    for shown in (
        "examples 9,144", "time 3 min 35 s", "examples per second 42.6", "final loss 0.413",
        "padding (token waste) 6.1%",
        "peak memory 2.00 GiB", "chosen: step 90", "chosen: α = 0.8", "Outside the domain: FastAPI pages, 214 queries",
        "0.702 → 0.699", "−0.003 [−0.010, +0.004]", "within the allowed loss 0.010", "rank 7 → rank 1 +0.667",
        "not found → rank 1 +1.000", "rank 1 → rank 2 −0.369", "AUC 0.985", "AUC 0.994",
        "Dropped for relative margin: 31,214", "13.8% of the candidates", "passage texts cut short 87", "Seed 42.",
        "bessemer demo --model minilm --seed 42 --out out/", "3e77b1c95d20aa41", "whole passage, 748 characters",
        "确保在每个依赖中只使用一次 yield。",
    ):  # fmt: skip
        assert shown in page.text, shown
    assert page.text.count("✓ relevant") == 4  # one at each side where it is among the first three, by hand


def test_the_interval_plot_is_drawn_to_scale() -> None:
    # tuned's interval is [0.0716, 0.1095] and zero is on the axis: equal steps in value are equal steps in x.
    html = render_report(sample_report())
    figure = html[html.index('aria-labelledby="differences-title') :]
    zero = float(re.search(r'class="zero" x1="([\d.]+)"', figure)[1])
    judged = figure[figure.index('class="judged"') :]
    low, high = (
        float(x) for x in re.search(r'class="whisker" x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"', judged).groups()
    )
    dot = float(re.search(r'class="dot" cx="([\d.]+)"', judged)[1])
    assert (low - zero) / (dot - zero) == pytest.approx(0.0716 / 0.0902, abs=0.01)
    assert (high - zero) / (dot - zero) == pytest.approx(0.1095 / 0.0902, abs=0.01)
    assert 'class="dot hollow"' in figure[: figure.index("</svg>")]  # hybrid-base: [-0.008, +0.030]


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


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf"), 10**400, None])
def test_numbers_that_are_none_or_not_finite_show_as_a_dash(bad: float | None) -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return bad if isinstance(value, int | float) and not isinstance(value, bool) else value

    report = sample_report()
    del report["settings"]
    page = Page(render_report(spoil(report) | {"seed": 42}))
    assert page.row("tuned")[1] == "–– [–, –]"
    assert "ship The tuned model" in page.text
    assert not re.search(r"\b(nan|inf|none)\b", page.text, re.IGNORECASE)


def test_values_that_cannot_be_drawn_are_counted() -> None:
    report = sample_report()
    report["training"]["loss_curve"][3]["loss"] = NAN
    assert "1 values were no finite numbers and are not drawn." in render_report(report)


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        ("evaluation.systems", "All systems"),
        ("evaluation.examples", "Queries won and lost"),
        ("training", ">Training<"),
        ("training.loss_curve", "Training loss"),
        ("training.interpolation", "by share of tuned weights"),
        ("evaluation.general", "Outside the domain"),
        ("evaluation.slices", "test queries by"),
        ("evaluation.separation", "AUC"),
        ("evaluation.recall_curve", "Recall within"),
        ("evaluation.comparisons", "difference with 95% interval</dt>\n        <dd>+0.090"),
        ("data", "Data: what went in"),
        ("data.funnel", "share kept"),
        ("negatives", "Hard negatives:"),
        ("command", "bessemer demo"),
        ("versions", ">Versions<"),
        ("fingerprints", ">Fingerprints"),
        ("settings", ">All settings<"),
    ],
)
def test_a_missing_or_null_part_leaves_its_section_out(path: str, heading: str) -> None:
    assert heading in render_report(sample_report())
    *parents, key = path.split(".")
    for gone in (False, True):
        report = sample_report()
        part = report
        for parent in parents:
            part = part[parent]
        part[key] = None
        if gone:
            del part[key]
        html = render_report(report)
        Page(html)
        assert heading not in html


@pytest.mark.parametrize("part", [None, "evaluation", "training", "data", "negatives", "examples"])
def test_any_key_may_be_missing(part: str | None) -> None:
    keys = list(_part(sample_report(), part))
    assert keys
    for key in keys:
        report = sample_report()
        del _part(report, part)[key]
        Page(render_report(report))


def _part(report: dict[str, Any], name: str | None) -> dict[str, Any]:
    if name == "examples":
        return report["evaluation"]["examples"]["won"][0]
    return report if name is None else report[name]


def test_an_empty_report_says_that_it_holds_no_verdict() -> None:
    page = Page(render_report({}))
    assert "no verdict This report holds no verdict." in page.text


def test_the_teacher_and_what_it_cost() -> None:
    llm = {"calls": 1200, "input_tokens": 3000, "output_tokens": 1200, "cost": 0.5}
    part = {"teacher": "http://host/v1 m", "pairs": 1500, "kept_from_before": 300, "answers_generated": 7, "llm": llm}
    told = Page(render_report({**sample_report(), "teacher": part})).text
    shown = "teacher http://host/v1 m pairs 1,500 of them kept from before 300 answers written for it 7 calls 1,200"
    assert f"{shown} tokens 4,200 cost 0.5000" in told
    local = Page(
        render_report({**sample_report(), "teacher": {"teacher": "m", "pairs": 5, "kept_from_before": 0}})
    ).text
    assert "Teacher teacher m pairs 5 Data" in local


def test_how_easy_the_questions_of_a_language_model_are() -> None:
    report = sample_report()
    shares = {"train": {"bm25": 0.9, "base": 0.75}, "test": {"bm25": 0.5}}
    report["data"]["llm"] = {"model": "m", "calls": 12, "cost": 0.25, "easiness": shares}
    page = Page(render_report(report))
    assert "model m calls 12 cost 0.2500" in page.text
    row = page.rows.index(["split", "bm25", "base"])
    assert page.rows[row + 1 : row + 3] == [["train", "90.0%", "75.0%"], ["test", "50.0%", "–"]]


def test_an_evaluation_of_other_systems_uses_their_names() -> None:
    report = sample_report()
    text = render_report({"evaluation": report["evaluation"]})
    assert "better than the base model" in text
    for row in report["evaluation"]["comparisons"]:
        row["baseline"], row["treatment"] = "e5", "bge"
    report["evaluation"]["systems"] = dict.fromkeys(("e5", "bge"), report["evaluation"]["systems"]["base"])
    page = Page(render_report({"evaluation": report["evaluation"]}))
    assert "Bge finds the right passages better than e5: ship it." in page.text
    assert "nDCG@10, e5 → bge" in page.text
    assert page.row("nDCG@10 of test queries by")[2:4] == ["e5", "bge"]


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


def test_the_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    assert write_report(sample_report(), path) == path
    before = path.read_bytes()
    assert before.decode("utf-8") == render_report(sample_report())

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ConfigError, match=r"report.html: cannot be written \(No space left on device\)"):
        write_report({}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report({}, path / "below-a-file.html")


needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
SCREENSHOT = Path(__file__).parents[2] / "scripts" / "screenshot"


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
