"""Comparing two evaluations of different times, from the values per query that their JSON holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from bessemer.config import EvaluationConfig
from bessemer.errors import DataError, Problem
from bessemer.evaluation.evaluate import COMPARED, PRIMARY
from bessemer.evaluation.verdict import GeneralResult, verdict
from bessemer.measures import paired_bootstrap, permutation_test
from bessemer.types import Comparison


def compare_recorded(first: Mapping[str, Any], second: Mapping[str, Any], config: EvaluationConfig) -> dict[str, Any]:
    """The judged system of ``second`` against that of ``first``, two "evaluation" dicts, on the queries in both.

    Judged is the treatment of the first comparison, or the last system where nothing was compared. What the second
    lost on its general set counts, and so does that all queries were extracted. Raises DataError when the two share no
    query.
    """
    names = [_judged_system(evaluation) for evaluation in (first, second)]
    places = [{q: i for i, q in enumerate(one["per_query"]["query_ids"])} for one in (first, second)]
    shared = [query_id for query_id in places[0] if query_id in places[1]]
    if not shared:
        raise DataError([Problem("per_query", None, "query_ids", "the two share no query", "compare the same split")])
    labels = np.asarray([first["per_query"]["clusters"][places[0][query_id]] for query_id in shared])
    values = {}
    for measure in COMPARED:
        values[measure] = [
            np.asarray([one["per_query"]["systems"][name][measure][place[query_id]] for query_id in shared])
            for one, name, place in zip((first, second), names, places, strict=True)
        ]
    titles = [f"first:{names[0]}", f"second:{names[1]}"]
    comparisons = []
    for measure, (before, after) in values.items():
        differences = after - before
        low, high = paired_bootstrap(differences, labels, config.bootstrap_samples)
        p = permutation_test(differences, labels, config.bootstrap_samples)
        comparisons.append(
            Comparison(titles[0], titles[1], measure, float(differences.mean()), low, high, p, len(shared))
        )
    n_left_out = len(places[0]) + len(places[1]) - 2 * len(shared)
    note = [f"{n_left_out} queries stand in one of the two files only and were left out."] if n_left_out else []
    means = {title: float(values[PRIMARY][i].mean()) for i, title in enumerate(titles)}
    origins = second["per_query"].get("origins")  # none in a file of an earlier version
    general = second.get("general")
    decided = verdict(
        comparisons[0],
        GeneralResult(**general) if general else None,
        means=means,
        n_clusters=len(np.unique(labels)),
        origin_all_extracted=bool(origins) and all(origins[places[1][query]] == "extracted" for query in shared),
        notes=note,
    )
    return {
        "n_queries": len(shared),
        "systems": {
            title: {"measures": {measure: float(values[measure][i].mean()) for measure in COMPARED}}
            for i, title in enumerate(titles)
        },
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "verdict": asdict(decided),
        "notes": note,
    }


def _judged_system(evaluation: Mapping[str, Any]) -> str:
    comparisons = evaluation.get("comparisons") or []
    return str(comparisons[0]["treatment"] if comparisons else list(evaluation["per_query"]["systems"])[-1])
