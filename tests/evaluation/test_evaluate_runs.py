"""Runs, fused runs and their measures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bessemer.config import EvaluationConfig
from bessemer.encoders.encoder import Encoded
from bessemer.errors import ConfigError, DataError
from bessemer.evaluation.evaluate import evaluate_runs, fuse_runs, rerank_run, run_lanes, run_system
from bessemer.search.bm25 import BM25
from bessemer.types import Hits, Judged, Query, Run

CONFIG = EvaluationConfig()
QUERIES = (Query("q1", "red apple"), Query("q2", "blue sky"), Query("q3", "no answer here"))
JUDGED = Judged(QUERIES, {"q1": {"a": 1}, "q2": {"b": 2, "c": 1}, "q3": {"a": 0}})


def test_run_system_keeps_every_query() -> None:
    run = run_system("bm25", BM25.build(["a", "b"], ["red apple", "green apple"]), QUERIES, 5)
    assert run.name == "bm25"
    assert [p for p, _ in run.results["q1"]] == ["a", "b"]
    assert run.results["q2"] == []
    assert run.queries_per_second > 0


def test_means_curve_and_notes() -> None:
    run = Run("one", {"q1": [("x", 2.0), ("a", 1.0)], "q3": [("a", 1.0)]}, 12.0)
    evaluation = evaluate_runs([run], JUDGED, CONFIG)
    assert evaluation.n_queries == 2  # q3 has no relevant passage
    assert evaluation.mean("one", "RR@10") == pytest.approx((0.5 + 0) / 2)  # q2 is missing and scores 0
    report = evaluation.to_dict()
    assert report["systems"]["one"]["queries_per_second"] == 12.0
    assert set(report["systems"]["one"]["measures"]) == set(CONFIG.measures)
    assert report["recall_curve"]["one"][:3] == [[1, 0.0], [2, 0.5], [3, 0.5]]
    notes = " ".join(report["notes"])
    assert "1 of 3 queries have no relevant passage" in notes
    assert "no results for 1 queries" in notes
    assert "Only 2 test queries" in notes


def test_fused_runs() -> None:
    first = Run("a", {"q1": [("x", 9.0), ("y", 8.0)], "q2": [("z", 1.0)]}, 10.0)
    second = Run("b", {"q1": [("y", 0.9)]}, 40.0)
    fused = fuse_runs("hybrid", [first, second], 1)
    assert fused.results == {"q1": [("y", pytest.approx(1 / 62 + 1 / 61))], "q2": [("z", pytest.approx(1 / 61))]}
    assert fused.queries_per_second == pytest.approx(8.0)  # 0.1 s + 0.025 s


def test_runs_fused_by_weighted_scores() -> None:
    # Min-max within each list: x 1, y 0.5, z 0 of the first; y 1, z 0 of the second, where x is as low as z.
    first = Run("a", {"q1": [("x", 9.0), ("y", 8.0), ("z", 7.0)]}, 10.0)
    second = Run("b", {"q1": [("y", 0.9), ("z", 0.5)]}, 40.0)
    fused = fuse_runs("hybrid", [first, second], 2, [1.0, 0.25])
    assert fused.results == {"q1": [("x", pytest.approx(1.0)), ("y", pytest.approx(0.75))]}


def test_a_reranked_run_keeps_what_stood_below() -> None:
    """102 hits: the first 100 turned around, the other two below them in their order."""
    hits = [(f"p{i:03d}", 200.0 - i) for i in range(102)]
    run = Run("first", {"q1": hits}, 10.0)

    def turned(texts: Sequence[str], lists: Sequence[Hits]) -> list[Hits]:
        assert texts == ["red apple", "blue sky"]
        return [[(p, float(i)) for i, (p, _) in enumerate(found)][::-1] for found in lists]

    again = rerank_run("again", run, turned, QUERIES[:2])
    found = again.results["q1"]
    assert [p for p, _ in found] == [*(f"p{i:03d}" for i in range(99, -1, -1)), "p100", "p101"]
    assert [score for _, score in found[-3:]] == [0.0, -1.0, -2.0]
    assert again.results["q2"] == []
    assert 0 < again.queries_per_second <= 10


def test_lanes_share_the_encoding() -> None:
    asked = []

    def encode(texts: Sequence[str]) -> Encoded:
        asked.append(list(texts))
        return Encoded()

    def first(queries: Encoded, top_k: int) -> list[Hits]:
        return [[("a", float(top_k))]] * 3

    runs, _ = run_lanes(encode, {"u.dense": first, "u": first}, QUERIES, 7)
    assert asked == [[query.text for query in QUERIES]]
    assert [run.name for run in runs] == ["u.dense", "u"]
    assert runs[1].results == {query.query_id: [("a", 7.0)] for query in QUERIES}


def test_faults() -> None:
    with pytest.raises(DataError, match="no query of this split has a relevant passage"):
        evaluate_runs([], Judged(QUERIES[2:], JUDGED.qrels), CONFIG)
    with pytest.raises(ConfigError, match="nDCG@10"):
        evaluate_runs([], JUDGED, EvaluationConfig(measures=("MRR at ten",)))
