"""Comparing two evaluations of different times, from the values per query that their JSON holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.config import EvaluationConfig
from bessemer.errors import DataError, Problem
from bessemer.evaluation.compare import compare_values, corrected
from bessemer.evaluation.evaluate import COMPARED, few_queries_note
from bessemer.evaluation.verdict import GeneralResult, verdict
from bessemer.measures import PRIMARY

Json = Mapping[str, Any]


def compare_recorded(first: Json, second: Json, config: EvaluationConfig) -> dict[str, Any]:
    """The judged system of ``second`` against that of ``first``, two "evaluation" dicts, on the queries in both.

    A query is in both where its id and its text are. Judged is the treatment of the first comparison, or the last
    system where nothing was compared. What the second lost on its general set counts, and so does that all queries were
    extracted. Raises DataError when the two share no query.
    """
    names = [_judged_system(evaluation) for evaluation in (first, second)]
    places = [{q: i for i, q in enumerate(one["per_query"]["query_ids"])} for one in (first, second)]
    shared, notes = _shared_queries(first, second, places)
    labels = np.asarray([first["per_query"]["clusters"][places[0][query_id]] for query_id in shared])
    values = {
        measure: (
            _values(first, names[0], measure, [places[0][query_id] for query_id in shared]),
            _values(second, names[1], measure, [places[1][query_id] for query_id in shared]),
        )
        for measure in COMPARED
    }
    titles = (f"first:{names[0]}", f"second:{names[1]}")
    comparisons = corrected(
        [compare_values(titles, measure, values[measure], labels, config.bootstrap_samples) for measure in COMPARED]
    )
    cluster_note = first["per_query"].get("cluster_note")  # none in a file of an earlier version
    notes += [*([cluster_note] if cluster_note else []), *few_queries_note(len(shared))]
    origins = second["per_query"].get("origins")  # the same
    decided = verdict(
        comparisons[0],
        _general(second.get("general")),
        means={title: float(values[PRIMARY][i].mean()) for i, title in enumerate(titles)},
        n_clusters=len(np.unique(labels)),
        origin_all_extracted=bool(origins) and all(origins[places[1][query]] == "extracted" for query in shared),
        notes=notes,
    )
    return {
        "n_queries": len(shared),
        "systems": {
            title: {"measures": {measure: float(values[measure][i].mean()) for measure in COMPARED}}
            for i, title in enumerate(titles)
        },
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "verdict": asdict(decided),
        "notes": notes,
    }


def _shared_queries(first: Json, second: Json, places: Sequence[Mapping[str, int]]) -> tuple[list[str], list[str]]:
    """The ids that stand for the same query in both, and notes on what was left out or not checked."""
    both = [query_id for query_id in places[0] if query_id in places[1]]
    hashes = [one["per_query"].get("text_hashes") for one in (first, second)]  # none in a file of an earlier version
    notes = []
    if all(hashes):
        shared = [q for q in both if hashes[0][places[0][q]] == hashes[1][places[1][q]]]
    else:
        shared = both
        sources = [f"{one.get('data')}, {one.get('split')}" for one in (first, second)]
        if sources[0] != sources[1]:
            notes.append(
                f"The two are of different data ({sources[0]}; {sources[1]}) and one of them holds no hashes of its "
                "queries: equal ids are taken for the same query. Evaluate both anew to have that checked."
            )
    if not shared:
        found = f"the two share {len(both)} ids, each with another text" if both else "the two share no query"
        raise DataError([Problem("per_query", None, "query_ids", found, "compare the same split of the same data")])
    n_one_only = len(places[0]) + len(places[1]) - 2 * len(both)
    if n_one_only:
        notes.append(f"{n_one_only} queries stand in one of the two files only and were left out.")
    if len(both) > len(shared):
        n = len(both) - len(shared)
        notes.append(f"{n} queries have another text in the second file under the same id and were left out.")
    return shared, notes


def _general(given: Json | None) -> GeneralResult | None:
    """Without what another version may have added."""
    return GeneralResult(**{field.name: given[field.name] for field in fields(GeneralResult)}) if given else None


def _values(evaluation: Json, system: str, measure: str, rows: Sequence[int]) -> NDArray[np.float64]:
    recorded = evaluation["per_query"]["systems"][system][measure]
    return np.asarray([recorded[row] for row in rows], dtype=np.float64)


def _judged_system(evaluation: Json) -> str:
    comparisons = evaluation.get("comparisons") or []
    return str(comparisons[0]["treatment"] if comparisons else list(evaluation["per_query"]["systems"])[-1])
