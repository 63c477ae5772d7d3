"""Systems against each other on the same queries: comparisons, verdict, and the `evaluation` part of report.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.config import EvaluationConfig
from bessemer.content_hash import content_hash
from bessemer.evaluation.clusters import Clusters, cluster_queries
from bessemer.evaluation.evaluate import COMPARED, Evaluation, evaluate_runs, few_queries_note
from bessemer.evaluation.examples import won_and_lost
from bessemer.evaluation.slices import query_groups, rough_slices_note, slice_row, slice_table
from bessemer.evaluation.verdict import GeneralResult, Verdict, verdict
from bessemer.measures import PRIMARY, holm, paired_bootstrap, permutation_test
from bessemer.types import Comparison, Judged, Passage, Run

__all__ = [
    "GeneralResult",
    "Verdict",
    "compare_pair",
    "compare_runs",
    "compare_values",
    "corrected",
    "evaluation_report",
    "general_result",
    "verdict",
]


def compare_pair(
    evaluation: Evaluation, baseline: str, treatment: str, measure: str, clusters: Clusters, n_samples: int
) -> Comparison:
    """The paired difference treatment - baseline: clustered bootstrap interval (95%), sign-flip p, not corrected."""
    values = _values(evaluation, baseline, measure), _values(evaluation, treatment, measure)
    return compare_values((baseline, treatment), measure, values, clusters.labels, n_samples)


def compare_values(
    names: tuple[str, str],
    measure: str,
    values: tuple[NDArray[np.float64], NDArray[np.float64]],
    labels: NDArray[np.int64],
    n_samples: int,
) -> Comparison:
    """As `compare_pair`: names and values of baseline and treatment, and the cluster of every query."""
    differences = values[1] - values[0]
    low, high = paired_bootstrap(differences, labels, n_samples)
    p = permutation_test(differences, labels, n_samples)
    return Comparison(*names, measure, float(differences.mean()), low, high, p, len(differences))


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The first as it is, chosen before looking; the p of the others corrected among themselves by Holm."""
    primary, *others = comparisons
    adjusted = holm([comparison.p for comparison in others])
    return [primary, *(replace(one, p=p) for one, p in zip(others, adjusted, strict=True))]


def compare_runs(
    evaluation: Evaluation, baseline: str, treatment: str, clusters: Clusters, n_samples: int = 10_000
) -> list[Comparison]:
    """First the primary comparison (nDCG@10, treatment - baseline), then the others.

    The others: every system against the baseline in nDCG@10, R@10 and RR@10, and every further system against the
    treatment in nDCG@10; their p are `corrected`. All intervals are plain 95% intervals.
    """
    systems = [name for name in evaluation.per_query if name != baseline]
    wanted = [(baseline, name, measure) for name in systems for measure in COMPARED]
    wanted += [(treatment, name, PRIMARY) for name in systems if name != treatment]
    wanted.sort(key=lambda one: one != (baseline, treatment, PRIMARY))  # stable: the primary one moves to the front
    return corrected([compare_pair(evaluation, *one, clusters, n_samples) for one in wanted])


def general_result(
    name: str, base: Run, tuned: Run, judged: Judged, passages: Sequence[Passage], config: EvaluationConfig
) -> GeneralResult:
    """What tuning cost outside the domain, in nDCG@10, with the clustered interval."""
    evaluation = evaluate_runs([base, tuned], judged, config)
    clusters = _clusters(evaluation, judged, passages)
    found = compare_pair(evaluation, base.name, tuned.name, PRIMARY, clusters, config.bootstrap_samples)
    means = evaluation.mean(base.name, PRIMARY), evaluation.mean(tuned.name, PRIMARY)
    return GeneralResult(
        name, evaluation.n_queries, *means, found.difference, found.ci_low, found.ci_high, config.general_margin
    )


def further_slice(
    title: str, base: Run, tuned: Run, judged: Judged, passages: Sequence[Passage], config: EvaluationConfig
) -> dict[str, Any]:
    """A row of the slice table for queries that no verdict rests on."""
    evaluation = evaluate_runs([base, tuned], judged, config)
    values = _values(evaluation, base.name, PRIMARY), _values(evaluation, tuned.name, PRIMARY)
    return slice_row(title, values, _clusters(evaluation, judged, passages).labels, config.bootstrap_samples)


def evaluation_report(
    runs: Sequence[Run],
    judged: Judged,
    passages: Sequence[Passage],
    config: EvaluationConfig,
    *,
    compared: tuple[str, str] = ("base", "tuned"),
    general: GeneralResult | None = None,
    separation: Mapping[str, Any] | None = None,
    further: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Everything under "evaluation" in report.json, and the JSON of `bessemer evaluate`, but for `data` and `split`.

    ``compared``: the names of baseline and judged system among ``runs``. One system alone gets its measures and no
    comparison. ``further``: rows of `further_slice`, which head the slices. Raises DataError when no query has a
    relevant passage, ConfigError for an unknown measure.
    """
    evaluation = evaluate_runs(runs, judged, config)
    report = {**evaluation.to_dict(), "general": asdict(general) if general else None, "separation": separation}
    clusters = _clusters(evaluation, judged, passages)
    report["per_query"] = _recorded(evaluation, clusters)
    baseline, treatment = compared
    if baseline == treatment or not {baseline, treatment} <= set(evaluation.per_query):
        nothing = Verdict("not enough evidence", f"The systems hold no pair {baseline} and {treatment} to compare.")
        return {**report, "comparisons": [], "verdict": asdict(nothing), "slices": [], "examples": _NO_EXAMPLES}
    by_id = {passage.passage_id: passage for passage in passages}
    comparisons = compare_runs(evaluation, baseline, treatment, clusters, config.bootstrap_samples)
    values = _values(evaluation, baseline, PRIMARY), _values(evaluation, treatment, PRIMARY)
    groups = query_groups(evaluation.queries, judged.qrels, by_id)
    own, slice_notes = slice_table(evaluation.queries, groups, values, clusters.labels, config.bootstrap_samples)
    slices = [*further, *own]
    named = {run.name: run for run in runs}
    changes = dict(zip((q.query_id for q in evaluation.queries), (values[1] - values[0]).tolist(), strict=True))
    pair = named[baseline], named[treatment]
    return {
        **report,
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "verdict": asdict(_decide(evaluation, comparisons, clusters, general)),
        "notes": [
            *evaluation.notes,
            *([clusters.note] if clusters.note else []),
            *slice_notes,
            *rough_slices_note(slices),
            _P_NOTE,
        ],
        "slices": slices,
        "examples": won_and_lost(*pair, evaluation.queries, judged.qrels, by_id, changes),
    }


def _clusters(evaluation: Evaluation, judged: Judged, passages: Sequence[Passage]) -> Clusters:
    documents = {passage.passage_id: passage.doc_id for passage in passages}
    return cluster_queries(evaluation.queries, judged.qrels, documents)


def _recorded(evaluation: Evaluation, clusters: Clusters) -> dict[str, Any]:
    """What `compare_recorded` needs: values, cluster, origin and text of every query, in the order of ``query_ids``."""
    return {
        "query_ids": [query.query_id for query in evaluation.queries],
        "text_hashes": [content_hash(query.searched_text)[:12] for query in evaluation.queries],
        "origins": [query.origin for query in evaluation.queries],
        "clusters": clusters.labels.tolist(),
        "cluster_note": clusters.note,
        "systems": {
            name: {measure: _values(evaluation, name, measure).tolist() for measure in COMPARED}
            for name in evaluation.per_query
        },
    }


_NO_EXAMPLES: dict[str, list[Any]] = {"won": [], "lost": []}
_P_NOTE = (
    "Intervals are 95% intervals of the paired bootstrap over clusters of queries that share a document. The p of the "
    "first comparison stands as it is, chosen beforehand; those of the others are corrected for their number (Holm)."
)


def _decide(
    evaluation: Evaluation, comparisons: Sequence[Comparison], clusters: Clusters, general: GeneralResult | None
) -> Verdict:
    primary = comparisons[0]
    return verdict(
        primary,
        general,
        means={name: evaluation.mean(name, PRIMARY) for name in evaluation.per_query},
        n_clusters=clusters.n_clusters,
        origin_all_extracted=all(query.origin == "extracted" for query in evaluation.queries),
        rivals=[one for one in comparisons if one.baseline == primary.treatment],
        notes=[*([clusters.note] if clusters.note else []), *few_queries_note(evaluation.n_queries)],
    )


def _values(evaluation: Evaluation, system: str, measure: str) -> NDArray[np.float64]:
    measured = evaluation.per_query[system][measure]
    return np.asarray([measured[query.query_id] for query in evaluation.queries], dtype=np.float64)
