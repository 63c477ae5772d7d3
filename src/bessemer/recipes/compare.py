"""Comparing what two evaluations measured, query by query."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.config import EvaluationConfig
from bessemer.errors import DataError, Problem
from bessemer.evaluation.recorded import compare_recorded


def compare(first: str, second: str, config: EvaluationConfig) -> Mapping[str, Any]:
    """The judged system of ``second`` against that of ``first``, on the queries that both files hold.

    Files are JSON of `evaluate` or report.json of `adapt`. Raises DataError for files that hold no values per query.
    """
    return compare_recorded(_evaluation(first), _evaluation(second), config)


def read_report(path: str) -> dict[str, Any]:
    """A JSON object from a file. Raises DataError where it is none."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError([Problem(path, None, "", f"cannot be read ({error.strerror})", "check the path")]) from None
    except ValueError as error:
        raise DataError(
            [Problem(path, None, "", f"not JSON: {error}", "give report.json or the JSON of evaluate")]
        ) from None
    if not isinstance(value, dict):
        raise DataError([Problem(path, 1, "", "not a JSON object", "give report.json or the JSON of evaluate")])
    evaluation = value.get("evaluation", value)
    if not isinstance(evaluation, dict) or not isinstance(evaluation.get("systems"), dict):
        fix = "give report.json or the JSON of evaluate"
        raise DataError([Problem(path, None, "systems", "holds no evaluation", fix)])
    return value


def _evaluation(path: str) -> Mapping[str, Any]:
    report = read_report(path)
    evaluation: Mapping[str, Any] = report.get("evaluation", report)
    if "per_query" not in evaluation:
        fix = "write it anew with `bessemer evaluate --json` or `bessemer adapt`"
        raise DataError([Problem(path, None, "per_query", "holds no values per query", fix)])
    return evaluation
