"""Clusters, comparisons, the verdict and the report's dict."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bessemer.config import EvaluationConfig
from bessemer.errors import DataError
from bessemer.evaluation.clusters import Clusters, cluster_queries
from bessemer.evaluation.compare import compare_runs, evaluation_report, further_slice, general_result
from bessemer.evaluation.evaluate import evaluate_runs
from bessemer.evaluation.recorded import compare_recorded
from bessemer.evaluation.report import render_report
from bessemer.evaluation.verdict import GeneralResult, verdict
from bessemer.types import Comparison, Hits, Judged, Passage, Query, Run

CONFIG = EvaluationConfig(bootstrap_samples=500)
N = 120


def queries(n: int, origin: str = "user") -> tuple[Query, ...]:
    return tuple(Query(f"q{i:03d}", f"question number {i}" + " more" * (i % 5), origin=origin) for i in range(n))


def corpus(n: int) -> list[Passage]:
    return [Passage(f"p{i:03d}", f"d{i:03d}", f"passage number {i} <script>") for i in range(n)]


def ranked(n: int, rank: int | None, names: str, swap: int = 0) -> Run:
    """Every query finds its passage at ``rank`` (None: never); the first ``swap`` ones at rank 1."""
    results: dict[str, Hits] = {}
    for i in range(n):
        place = 1 if i < swap else rank
        ids = [f"p{(i + offset) % n:03d}" for offset in range(1, 11)]
        if place is not None:
            ids.insert(place - 1, f"p{i:03d}")
        results[f"q{i:03d}"] = [(p, float(-j)) for j, p in enumerate(ids)]
    return Run(names, results, 100.0)


def judged(n: int, origin: str = "user") -> Judged:
    return Judged(queries(n, origin), {f"q{i:03d}": {f"p{i:03d}": 1} for i in range(n)})


def labels(positives: list[set[str]], documents: dict[str, str]) -> Clusters:
    some = queries(len(positives))
    qrels = {query.query_id: dict.fromkeys(found, 1) for query, found in zip(some, positives, strict=True)}
    return cluster_queries(some, qrels, documents)


def test_clusters_share_a_passage_or_a_document() -> None:
    documents = {"a1": "A", "a2": "A", "b": "B"} | {f"x{i}": f"x{i}" for i in range(30)}
    positives = [{"a1"}, {"a2", "b"}, {"b"}, *({f"x{i}"} for i in range(30))]
    clusters = labels(positives, documents)
    assert clusters.labels[0] == clusters.labels[1] == clusters.labels[2]
    assert clusters.n_clusters == 31
    assert clusters.note == ""


def test_a_chain_falls_apart_into_equal_documents_and_says_so() -> None:
    # query i has passages i//2 and i//2 + 1: a chain through all; pairs of queries have the same positives
    chain = [{f"x{i // 2}", f"x{i // 2 + 1}"} for i in range(100)]
    clusters = labels(chain, {})
    assert clusters.n_clusters == 50
    assert "chain 100 of the 100 queries" in clusters.note
    assert "same documents (50 groups in all) and may be too narrow" in clusters.note
    # beside it two queries that share one of their documents: they are no chain and stay one group
    assert labels([*chain, {"y", "z1"}, {"y", "z2"}], {}).n_clusters == 51


def test_queries_about_one_document_stay_one_cluster_however_many_they_are() -> None:
    positives = [{"hub", f"x{i}"} if i < 10 else {"hub"} for i in range(100)] + [{f"y{i}"} for i in range(30)]
    clusters = labels(positives, {})
    assert clusters.n_clusters == 31
    assert "100 of the 130 queries share documents and count as one of 31 groups" in clusters.note
    passages = [{f"x{i}"} for i in range(100)] + [{f"y{i}"} for i in range(30)]
    assert labels(passages, {f"x{i}": "X" for i in range(100)}).n_clusters == 31


def test_few_documents_stay_few_clusters() -> None:
    clusters = labels([{f"x{i % 6}"} for i in range(100)], {})
    assert clusters.n_clusters == 6
    assert "only 6" in clusters.note


def test_few_topics_of_several_documents_stay_few_clusters() -> None:
    # 10 topics with 12 wordings each, judged by any two of the three documents of the topic
    clusters = labels(
        [{f"x{i % 10}{'abc'[j % 3]}", f"x{i % 10}{'bca'[j % 3]}"} for i in range(10) for j in range(12)], {}
    )
    assert clusters.n_clusters == 10
    # 4 topics, each with more than a fifth of the queries: six documents are no chain
    four = [{f"x{i}{j % 6}", f"x{i}{(j + 1) % 6}"} for i in range(4) for j in range(30)]
    assert labels(four, {}).n_clusters == 4


def test_a_gain_on_one_passage_with_many_queries_is_not_enough() -> None:
    passage_of = [0 if i < 40 else i for i in range(150)]
    some = Judged(queries(150), {f"q{i:03d}": {f"p{p:03d}": 1} for i, p in enumerate(passage_of)})
    ranks = {"base": 3, "tuned": 1}
    runs = []
    for name, rank in ranks.items():
        results: dict[str, Hits] = {}
        for i, p in enumerate(passage_of):
            ids = ["other-1", "other-2"]
            ids.insert(rank - 1 if p == 0 else 0, f"p{p:03d}")
            results[f"q{i:03d}"] = [(one, float(-j)) for j, one in enumerate(ids)]
        runs.append(Run(name, results))
    report = evaluation_report(runs, some, corpus(150), CONFIG)
    # rank 3 -> 1 is worth 0.5 for 40 of 150 queries, and flipping the sign of one group changes no absolute sum
    assert report["comparisons"][0]["difference"] == pytest.approx(0.5 * 40 / 150)
    assert (report["comparisons"][0]["ci_low"], report["comparisons"][0]["p"]) == (0.0, 1.0)
    assert len(set(report["per_query"]["clusters"])) == 111
    assert report["verdict"]["decision"] == "not enough evidence"
    assert "40 of the 150 queries" in report["verdict"]["reason"]


def test_topics_asked_in_many_wordings_are_counted_once() -> None:
    # 10 topics of two passages, 12 wordings each: 7 topics won, 3 lost; two-sided sign test: 2 * 176 / 1024
    topics = [i // 12 for i in range(N)]
    some = Judged(queries(N), {f"q{i:03d}": {f"p{t}a": 1, f"p{t}b": 1} for i, t in enumerate(topics)})
    found = {True: [("other", 0.0), ("p{}a", -1.0), ("p{}b", -2.0)], False: [("other", 0.0), ("else", -1.0)]}

    def run(name: str, won: range) -> Run:
        lists = [[(p.format(t), score) for p, score in found[t in won]] for t in topics]
        return Run(name, {f"q{i:03d}": hits for i, hits in enumerate(lists)})

    config = EvaluationConfig(bootstrap_samples=2000)  # more than the 1024 patterns of signs: all are counted
    report = evaluation_report([run("base", range(7, 10)), run("tuned", range(7))], some, [], config)
    assert report["comparisons"][0]["p"] == pytest.approx(2 * 176 / 1024)
    assert report["verdict"]["decision"] == "not enough evidence"


def test_comparisons_primary_first_others_corrected() -> None:
    runs = [ranked(N, 1, "bm25"), ranked(N, 3, "base"), ranked(N, 3, "tuned", swap=60)]
    evaluation = evaluate_runs(runs, judged(N), CONFIG)
    clusters = Clusters(np.arange(N))
    found = compare_runs(evaluation, "base", "tuned", clusters, 500)
    assert [(c.baseline, c.treatment, c.measure) for c in found] == [
        ("base", "tuned", "nDCG@10"),
        *(("base", "bm25", measure) for measure in ("nDCG@10", "R@10", "RR@10")),
        *(("base", "tuned", measure) for measure in ("R@10", "RR@10")),
        ("tuned", "bm25", "nDCG@10"),
    ]
    # rank 3 -> 1 is worth 1 - 1/log2(4) = 0.5 in nDCG, for half of the queries
    assert found[0].difference == pytest.approx(0.25)
    assert found[0].ci_low < 0.25 < found[0].ci_high
    assert found[0].p == 1 / 501
    assert found[1].p == pytest.approx(6 / 501)  # Holm over the six others; four of them share this p
    assert found[2].difference == 0
    assert found[2].p == 1.0


PRIMARY = Comparison("base", "tuned", "nDCG@10", 0.02, 0.01, 0.03, 0.001, 500)
GENERAL = GeneralResult("docstrings", 300, 0.6, 0.595, -0.005, -0.01, 0.0, 0.01)
MEANS = {"base": 0.5, "tuned": 0.52}


@pytest.mark.parametrize(
    ("primary", "general", "extracted", "n_clusters", "decision", "words"),
    [
        ({}, {}, False, 500, "ship", "difference +0.0200 (+4.0%), 95% interval [+0.0100, +0.0300] over 500 queries"),
        ({}, None, False, 500, "ship", "No general set was evaluated"),
        ({"ci_low": -0.001}, {}, False, 500, "not enough evidence", "cannot be told apart"),
        ({"ci_low": 0.0}, {}, False, 500, "not enough evidence", "cannot be told apart"),
        ({"difference": -0.02, "ci_low": -0.03, "ci_high": -0.01}, {}, False, 500, "keep base", "worse"),
        ({}, {"difference": -0.0101}, False, 500, "keep base", "lost 0.0101, more than the margin of 0.01"),
        ({}, {"difference": -0.01}, False, 500, "ship", "lost 0.0100, within the margin"),
        ({}, {"difference": 0.02}, False, 500, "ship", "tuned gained 0.0200."),
        ({}, {}, True, 500, "not enough evidence", "extracted"),
        ({"ci_high": -0.01, "ci_low": -0.03}, {}, True, 500, "keep base", "worse"),
        ({"p": 0.06}, {}, False, 8, "not enough evidence", "only 8 independent groups"),
        ({"p": 0.01}, {}, False, 8, "ship", "better"),
    ],
)
def test_verdict(
    primary: dict[str, float], general: dict[str, float] | None, extracted: bool, n_clusters: int, decision: str,
    words: str,
) -> None:  # fmt: skip
    found = verdict(
        replace(PRIMARY, **primary),  # type: ignore[arg-type]
        None if general is None else replace(GENERAL, **general),  # type: ignore[arg-type]
        means=MEANS, n_clusters=n_clusters, origin_all_extracted=extracted,
    )  # fmt: skip
    assert found.decision == decision
    assert words in found.reason


def test_verdict_names_who_beats_the_tuned_model() -> None:
    rivals = [
        Comparison("tuned", "hybrid-tuned", "nDCG@10", 0.03, 0.01, 0.05, 0.001, 500),
        Comparison("tuned", "bm25", "nDCG@10", 0.01, -0.01, 0.03, 0.5, 500),
        Comparison("tuned", "hybrid-base", "nDCG@10", -0.01, -0.02, 0.0, 0.5, 500),
    ]
    means = {"means": MEANS, "n_clusters": 500, "origin_all_extracted": False}
    reason = verdict(PRIMARY, GENERAL, rivals=rivals, notes=["A note."], **means).reason  # type: ignore[arg-type]
    assert "hybrid-tuned beats tuned by 0.0300 nDCG@10 [+0.0100, +0.0500]: consider serving it." in reason
    assert "bm25 is ahead of tuned by 0.0100" in reason
    assert "which may be chance" in reason
    assert "hybrid-base" not in reason
    assert reason.endswith("A note.")


def test_one_query_never_ships() -> None:
    runs = [Run("base", {}), ranked(1, 1, "tuned")]
    report = evaluation_report(runs, judged(1), corpus(1), CONFIG)
    assert report["comparisons"][0]["ci_low"] > 0  # the bootstrap of one query says nothing
    assert report["verdict"]["decision"] == "not enough evidence"


def test_the_whole_report() -> None:
    runs = [ranked(N, None, "bm25"), ranked(N, 3, "base"), ranked(N, 3, "tuned", swap=60)]
    general = general_result("other", ranked(N, 1, "base"), ranked(N, 1, "tuned"), judged(N), corpus(N), CONFIG)
    assert (general.base, general.tuned, general.difference, general.margin) == (1.0, 1.0, 0.0, 0.01)
    report = evaluation_report(runs, judged(N), corpus(N), CONFIG, general=general)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["verdict"]["decision"] == "ship"
    assert report["n_queries"] == N
    assert report["general"]["name"] == "other"
    assert list(report["systems"]) == ["bm25", "base", "tuned"]
    [won] = [example for example in report["examples"]["won"] if example["query_id"] == "q000"]
    assert (won["base_rank"], won["tuned_rank"], won["change"]) == (3, 1, pytest.approx(0.5))
    assert [hit["relevant"] for hit in won["base"]] == [False, False, True]
    assert won["relevant"] == [{"passage_id": "p000", "text": "passage number 0 <script>"}]
    assert report["examples"]["lost"] == []
    slices = {row["slice"]: row for row in report["slices"]}
    lengths = [row for name, row in slices.items() if name.startswith("query length")]
    assert sum(row["n_queries"] for row in lengths) == N
    assert not any(name.startswith(("language", "origin")) for name in slices)  # one group only
    for row in slices.values():
        assert row["difference"] == pytest.approx(row["tuned"] - row["base"])


def test_long_texts_of_examples_are_cut_and_say_so() -> None:
    long = (replace(queries(1)[0], text="w" * 1001), *queries(N)[1:])
    passages = [Passage("p000", "d000", "t" * 1001), Passage("p001", "d001", "t" * 1000), *corpus(N)[2:]]
    runs = [ranked(N, 3, "base"), ranked(N, 3, "tuned", swap=2)]
    report = evaluation_report(runs, Judged(long, judged(N).qrels), passages, CONFIG)
    cut, whole = sorted(report["examples"]["won"], key=lambda example: str(example["query_id"]))
    assert cut["query"] == "w" * 1000 + "…"
    assert cut["relevant"][0]["text"] == "t" * 1000 + "…"
    assert whole["relevant"][0]["text"] == "t" * 1000


def test_slices_by_language_and_small_ones_are_counted() -> None:
    some = [
        replace(query, text="如何使用这个框架" if i < 40 else query.text, origin="mined" if i < 5 else "user")
        for i, query in enumerate(queries(N))
    ]
    runs = [ranked(N, 3, "base"), ranked(N, 3, "tuned", swap=40)]
    report = evaluation_report(runs, Judged(tuple(some), judged(N).qrels), corpus(N), CONFIG)
    slices = {row["slice"]: row for row in report["slices"]}
    assert slices["language: Chinese"]["n_queries"] == 40
    assert slices["language: Chinese"]["difference"] == pytest.approx(0.5)
    assert slices["language: other than Chinese"]["difference"] == 0
    assert "origin: mined" not in slices
    assert any("origin: mined (5)" in note for note in report["notes"])


def test_slices_of_few_independent_groups_have_no_interval_and_are_named() -> None:
    # the first 40 queries, in Chinese, are about five passages, the others about one each
    some = [replace(query, text="如何使用这个框架" if i < 40 else query.text) for i, query in enumerate(queries(N))]
    of_five = Judged(tuple(some), {f"q{i:03d}": {f"p{i % 5 if i < 40 else i:03d}": 1} for i in range(N)})
    runs = [Run("base", {}), ranked(N, 1, "tuned")]
    further = further_slice("further questions: seen", *runs, of_five, corpus(N), CONFIG)
    assert further["ci_low"] <= further["difference"] <= further["ci_high"]
    few = further_slice("further questions: few", *runs, replace(of_five, queries=some[:40]), corpus(N), CONFIG)
    report = evaluation_report(runs, of_five, corpus(N), CONFIG, further=[further, few])
    slices = {row["slice"]: row for row in report["slices"]}
    assert list(slices)[:2] == ["further questions: seen", "further questions: few"]
    chinese = slices["language: Chinese"]
    assert (chinese["n_queries"], chinese["ci_low"], chinese["ci_high"]) == (40, None, None)
    assert chinese["difference"] == pytest.approx(chinese["tuned"])
    assert slices["language: other than Chinese"]["ci_low"] is not None
    [note] = [note for note in report["notes"] if "have no interval" in note]
    assert "fewer than 6 independent groups" in note
    assert "further questions: few, " in note
    assert "language: Chinese" in note
    assert "further questions: few" in render_report({"evaluation": report})


def test_extracted_queries_never_ship() -> None:
    runs = [ranked(N, 3, "base"), ranked(N, 1, "tuned")]
    report = evaluation_report(runs, judged(N, "extracted"), corpus(N), CONFIG)
    assert report["verdict"]["decision"] == "not enough evidence"


def test_one_system_alone_is_measured() -> None:
    report = evaluation_report([ranked(N, 1, "bm25")], judged(N), corpus(N), CONFIG, compared=("bm25", "bm25"))
    assert report["systems"]["bm25"]["measures"]["R@1"] == 1.0
    assert report["comparisons"] == []
    assert report["verdict"]["decision"] == "not enough evidence"
    assert len(report["per_query"]["systems"]["bm25"]["nDCG@10"]) == N


def test_two_files_of_extracted_queries_or_a_broken_general_margin_never_ship() -> None:
    runs = [ranked(N, 3, "base"), ranked(N, 1, "tuned")]
    pairs = [("user", "ship"), ("extracted", "not enough evidence")]
    for origin, decision in pairs:
        first, second = (
            evaluation_report([run], judged(N, origin), corpus(N), CONFIG, compared=(run.name, run.name))
            for run in runs
        )
        assert compare_recorded(first, second, CONFIG)["verdict"]["decision"] == decision
    first = evaluation_report(runs[:1], judged(N), corpus(N), CONFIG)
    forgot = general_result("other", ranked(N, 1, "base"), ranked(N, 3, "tuned"), judged(N), corpus(N), CONFIG)
    second = evaluation_report(runs, judged(N), corpus(N), CONFIG, general=forgot)
    found = compare_recorded(first, second, CONFIG)["verdict"]
    assert found["decision"] == "keep base"
    assert "On the general set other" in found["reason"]
    del second["per_query"]["origins"]  # as an earlier version wrote it
    assert compare_recorded(first, second | {"general": None}, CONFIG)["verdict"]["decision"] == "ship"


def one_system(run: Run, some: Judged, **facts: str) -> dict[str, Any]:
    return facts | evaluation_report([run], some, corpus(N), CONFIG, compared=(run.name, run.name))


def test_two_files_with_equal_ids_and_other_texts_share_no_query() -> None:
    first = one_system(ranked(N, 3, "base"), judged(N))
    other = tuple(replace(query, text=f"another {query.text}") for query in queries(N))
    with pytest.raises(DataError, match="share 120 ids, each with another text"):
        compare_recorded(first, one_system(ranked(N, 1, "tuned"), Judged(other, judged(N).qrels)), CONFIG)
    some = Judged((*other[:7], *queries(N)[7:]), judged(N).qrels)
    found = compare_recorded(first, one_system(ranked(N, 1, "tuned"), some), CONFIG)
    assert found["n_queries"] == N - 7
    assert any(note.startswith("7 queries have another text") for note in found["notes"])


def test_two_files_without_texts_of_different_data_are_compared_with_a_warning() -> None:
    first = one_system(ranked(N, 3, "base"), judged(N), data="scifact", split="test")
    second = one_system(ranked(N, 1, "tuned"), judged(N), data="faq", split="test")
    assert compare_recorded(first, second, CONFIG)["notes"] == []  # a folder may have moved: the texts are the same
    del second["per_query"]["text_hashes"]  # as an earlier version wrote it
    [note] = compare_recorded(first, second, CONFIG)["notes"]
    assert "different data (scifact, test; faq, test)" in note
    assert compare_recorded(first, second | {"data": "scifact"}, CONFIG)["notes"] == []


def test_two_files_of_few_queries_in_few_groups_say_so() -> None:
    some = Judged(queries(30), {f"q{i:03d}": {f"p{i % 5:03d}": 1} for i in range(30)})
    reports = [
        evaluation_report([Run(name, {}) if name == "base" else ranked(30, 1, name)], some, corpus(30), CONFIG,
                          compared=(name, name))
        for name in ("base", "tuned")
    ]  # fmt: skip
    found = compare_recorded(*reports, CONFIG)
    assert [note.partition(";")[0] for note in found["notes"]] == [
        "Independent groups of queries: only 5",
        "Only 30 test queries: the interval is rough, often too narrow",
    ]
    assert "only 5 independent groups" in found["verdict"]["reason"]


def test_two_files_correct_all_p_but_the_first() -> None:
    runs = [ranked(N, 3, "base"), ranked(N, 3, "tuned", swap=60)]
    rows = compare_recorded(*(one_system(run, judged(N)) for run in runs), CONFIG)["comparisons"]
    # of 500 drawn patterns of signs none is as extreme; R@10 is 1 for both; Holm doubles the smaller of two p
    assert [(row["measure"], row["p"]) for row in rows] == [("nDCG@10", 1 / 501), ("R@10", 1.0), ("RR@10", 2 / 501)]


def test_a_general_set_recorded_by_another_version_still_counts() -> None:
    forgot = general_result("other", ranked(N, 1, "base"), ranked(N, 3, "tuned"), judged(N), corpus(N), CONFIG)
    runs = [ranked(N, 3, "base"), ranked(N, 1, "tuned")]
    second = evaluation_report(runs, judged(N), corpus(N), CONFIG, general=forgot)
    second["general"]["of a later version"] = 1
    assert compare_recorded(one_system(runs[0], judged(N)), second, CONFIG)["verdict"]["decision"] == "keep base"
