"""The HTML report: what it shows is what the dict holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from report_pages import Page
from sample_report import sample_report

from bessemer.errors import ConfigError
from bessemer.evaluation.report import render_report, write_report

NAN = float("nan")


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(sample_report()))


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


def test_the_first_comparison_is_the_judged_one_whatever_the_systems_are_called() -> None:
    report = sample_report()
    comparisons = report["evaluation"]["comparisons"]
    comparisons.sort(key=lambda row: row["treatment"] != "hybrid-tuned")
    page = Page(render_report(report))
    top = page.text[: page.text.index("All systems")]
    assert "ship Hybrid-tuned finds the right passages better than the base model: ship it." in top
    assert "0.637 → 0.714" in top
    assert "by hybrid-tuned (2 shown)" in page.text
    query_slices = page.row("nDCG@10 of test queries by")
    assert query_slices[2:4] == ["base", "hybrid-tuned"]


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


def test_an_interval_that_is_a_point_is_no_clear_difference() -> None:
    report = sample_report()
    for row in report["evaluation"]["comparisons"]:
        row["ci_low"] = row["ci_high"] = row["difference"]
    html = render_report(report)
    figure = html[html.index('aria-labelledby="differences-title') :]
    assert 'class="dot"' not in figure[: figure.index("</svg>")]


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
