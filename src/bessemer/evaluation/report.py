"""report.json as one self-contained HTML page: no script, no external resource, everything escaped.

The page is made from the dict alone. Parts that are missing or null leave their section out. Texts of documents and
queries are hostile: they are escaped, bounded, and their invisible control characters are written out (`clean`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bessemer.evaluation import formatting, report_figures, report_sections
from bessemer.formats.lines import atomic_writer

LONG_TEXT = 320
"""Characters from which a passage is folded to a few lines, with a switch to show all of it."""


def render_report(report: Mapping[str, Any]) -> str:
    """The HTML page of a report (the keys of report.json, any of which may be missing).

    The page can be encoded as UTF-8 whatever the dict holds, lone surrogates included.
    """
    evaluation = report_sections.mapping(report.get("evaluation"))
    data = report_sections.mapping(report.get("data"))
    negatives = report_sections.mapping(report.get("negatives"))
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            evaluation=evaluation,
            data=data,
            negatives=negatives,
            data_name=data.get("name") or evaluation.get("data"),
            verdict=report_sections.verdict(report),
            differences=report_figures.differences(evaluation),
            notes=_notes(evaluation, data, negatives),
            systems=report_sections.systems_table(evaluation),
            quality=report_figures.quality_figures(evaluation),
            slices=report_sections.slices_table(evaluation),
            general=report_sections.general_set(evaluation),
            examples=report_sections.examples(evaluation),
            training=report_figures.training(report),
            funnel=report_sections.funnel(data),
            teacher=report_sections.teacher(report),
            llm=report_sections.language_model(data),
            settings=list(report_sections.flat(report_sections.mapping(report.get("settings")))),
        )
    )


def write_report(report: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page to ``path`` whole or not at all; raises ConfigError where that cannot be done."""
    path = Path(path)
    page = render_report(report)
    with atomic_writer(path) as stream:
        stream.write(page)
    return path


def _notes(*parts: Mapping[str, Any]) -> list[str]:
    """What qualifies the result, evaluation first."""
    return [note for part in parts for key in ("notes", "warnings") for note in report_sections.texts(part.get(key))]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else formatting.clean(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "signed", "interval", "percent", "percent_of_base", "p_value", "count", "rate"):
        environment.filters[name] = getattr(formatting, name)
    environment.filters["mapping"] = report_sections.mapping
    environment.filters["records"] = report_sections.records
    environment.globals["LONG_TEXT"] = LONG_TEXT
    return environment
