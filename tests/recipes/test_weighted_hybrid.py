"""Weighted scores in place of ranks: when they are taken, what becomes of them, and the index of `adapt`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bessemer.formats import read_beir
from bessemer.measures import per_query
from bessemer.recipes.weighted_hybrid import note_of, tune_hybrid, weighted_run
from bessemer.search.fusion_tuning import FusionTuning
from bessemer.search.index import open_index
from bessemer.types import Judged, Query, Run

QUERIES = tuple(Query(f"q{i}", "text") for i in range(12))
DEV = Judged(QUERIES, {query.query_id: {"right": 1} for query in QUERIES})


def runs(bm25: list[tuple[str, float]]) -> tuple[Run, Run]:
    dense = [("right", 0.9), ("b", 0.2), ("c", 0.1)]
    return (
        Run("tuned", {query.query_id: dense for query in QUERIES}, 10.0),
        Run("bm25", {query.query_id: bm25 for query in QUERIES}, 10.0),
    )


def test_weights_are_taken_where_ranks_mislead() -> None:
    # By rank "b" wins, second and first, over "right", first and third: 1/62 + 1/61 > 1/61 + 1/63. By score "right" has
    # 1 + w * 0 and "b" 0.125 + w * 1: it wins for every w of the grid up to 0.5.
    dense, bm25 = runs([("b", 30.0), ("c", 20.0), ("right", 10.0)])
    fusion = tune_hybrid(QUERIES, DEV, dense, bm25)
    assert fusion is not None
    assert (fusion.weighted, fusion.n_queries) == (1.0, 12)
    assert fusion.by_rank == pytest.approx(0.63093, abs=1e-5)  # rank 2
    assert fusion.weights == {"dense": 1.0, "bm25": 0.5}
    (run,) = weighted_run(fusion, dense, bm25, 2)
    assert run.name == "hybrid-weighted"
    assert run.results["q0"] == [("right", pytest.approx(1.0)), ("b", pytest.approx(0.125 + 0.5))]
    assert note_of(fusion) == (
        "hybrid-weighted, as the index searches: scores of tuned and BM25, with weights chosen on dev "
        "(dense 1 and bm25 0.5: nDCG@10 1.0000, by rank 0.6309, on 12 dev queries)."
    )


def test_ranks_stay_where_they_are_as_good() -> None:
    dense, bm25 = runs([("right", 30.0), ("c", 20.0), ("b", 10.0)])
    fusion = tune_hybrid(QUERIES, DEV, dense, bm25)
    assert fusion is not None
    assert fusion.weights is None
    assert weighted_run(fusion, dense, bm25, 2) == []
    assert note_of(fusion).startswith("The index fuses ranks")


def test_without_dev_queries_nothing_is_tuned() -> None:
    dense, bm25 = runs([("right", 30.0)])
    assert tune_hybrid((), DEV, dense, bm25) is None
    assert weighted_run(None, dense, bm25, 2) == []


def test_the_index_of_adapt_searches_as_was_measured(adapted: Any) -> None:
    fusion = adapted.report["evaluation"]["fusion"]
    stamp = json.loads((adapted.out / "index" / "manifest.json").read_text(encoding="utf-8"))
    assert stamp["fusion"] == fusion
    assert fusion["n_queries"] + fusion["unusable"] == 8
    test = read_beir(adapted.config.data).collection.splits["test"]
    index = open_index(adapted.out / "index")
    found = {q.query_id: [(hit["passage_id"], hit["score"]) for hit in index.search(q.text, 10)] for q in test.queries}
    values = per_query(found, test.qrels, list(found), ["nDCG@10"])["nDCG@10"]
    name = "hybrid-weighted" if fusion["weights"] else "hybrid-tuned"
    measured = adapted.report["evaluation"]["systems"][name]["measures"]["nDCG@10"]
    assert sum(values.values()) / len(values) == pytest.approx(measured, abs=1e-9)
    tuning = FusionTuning(fusion["weights"], fusion["dev_weighted"], fusion["dev_by_rank"], fusion["n_queries"])
    assert adapted.report["evaluation"]["notes"][0] == note_of(tuning)
