"""Mining against a brute-force ranking in numpy, and what must never come back as a negative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.config import NegativesConfig
from bessemer.errors import ConfigError
from bessemer.negatives import mine_hard_negatives
from bessemer.types import Judged, Passage, Query
from fixed_vectors import FixedVectors

NO_MARGIN = {"relative_margin": 0.0, "absolute_margin": None}


def passage(number: int, text: str | None = None) -> Passage:
    return Passage(f"p{number}", f"d{number}", f"passage {number}" if text is None else text)


def world(n_queries: int, n_passages: int, seed: int = 0) -> tuple[Judged, list[Passage], FixedVectors]:
    """Random vectors; query i is answered by passages i and i + 1."""
    random = np.random.default_rng(seed)
    queries = tuple(Query(f"q{i}", f"query {i}") for i in range(n_queries))
    passages = [passage(i) for i in range(n_passages)]
    vectors = {item: random.normal(size=8).tolist() for item in [q.text for q in queries] + [p.text for p in passages]}
    qrels = {f"q{i}": {f"p{i % n_passages}": 1, f"p{(i + 1) % n_passages}": 2} for i in range(n_queries)}
    return Judged(queries, qrels), passages, FixedVectors(vectors)


def on_a_line(*scores: float, text: str = "the query") -> FixedVectors:
    """A query (1, 0) and passages p0, p1, ... that score as given."""
    return FixedVectors({text: [1.0, 0.0]} | {f"passage {i}": [score, 1.0] for i, score in enumerate(scores)})


def test_top_k_equals_brute_force_with_the_window_counted_after_the_positives() -> None:
    judged, passages, encoder = world(n_queries=7, n_passages=40)
    config = NegativesConfig(n_negatives=5, range_min=2, range_max=9, **NO_MARGIN)
    mined = mine_hard_negatives(judged, passages, encoder, config).negatives
    queries = encoder.encode_queries([query.text for query in judged.queries]).dense
    corpus = encoder.encode_passages([p.text for p in passages]).dense
    assert queries is not None
    assert corpus is not None
    scores = queries.astype(np.float64) @ corpus.astype(np.float64).T
    for i, row in enumerate(mined):
        ranking = [p for p in np.argsort(-scores[i]) if p not in (i, i + 1)][2:9][:5]
        assert row.query_id == f"q{i}"
        assert row.passage_ids == tuple(f"p{p}" for p in ranking)
        assert row.scores == pytest.approx(scores[i][ranking], abs=1e-6)
        assert row.positive_scores == pytest.approx({f"p{i}": scores[i][i], f"p{i + 1}": scores[i][i + 1]}, abs=1e-6)
        assert row.strategy == "top_k"


def test_margin_and_report_by_hand() -> None:
    judged = Judged((Query("q", "the query"),), {"q": {"p1": 1}})
    encoder = on_a_line(0.95, 0.8, 0.79, 0.7, 0.6, 0.5)  # the positive scores 0.8: the limit is 0.76
    passages = [passage(i) for i in range(6)]
    mined = mine_hard_negatives(judged, passages, encoder, NegativesConfig(n_negatives=2))
    (row,) = mined.negatives
    assert row.passage_ids == ("p3", "p4")
    assert row.scores == pytest.approx((0.7, 0.6))
    report = mined.report
    assert (report.strategy, report.n_queries, report.mean_per_query) == ("top_k", 1, 2.0)
    assert report.dropped == {"relative margin": 2}  # p0 and p2, on the way to the second negative
    assert report.dropped_share == 0.5  # 2 of the 4 that were looked at
    assert report.warnings == ()


def test_dirty_data_and_missing_negatives_are_warned_of() -> None:
    judged = Judged((Query("q", "the query"), Query("lost", "the query")), {"q": {"p4": 1}, "lost": {"gone": 1}})
    encoder = on_a_line(0.9, 0.8, 0.7, 0.1, 0.6)
    mined = mine_hard_negatives(judged, [passage(i) for i in range(5)], encoder, NegativesConfig(n_negatives=2))
    assert [row.passage_ids for row in mined.negatives] == [("p3",)]
    assert mined.report.dropped == {"relative margin": 3}
    assert mined.report.dropped_share == 0.75
    lost, short, dirty = mined.report.warnings
    assert lost.startswith("1 queries have no relevant passage")
    assert short.startswith("1 of 1 queries have fewer than 2")
    assert dirty.startswith("75% of the nearest candidates")


def test_counts_of_the_report_add_up() -> None:
    judged, passages, encoder = world(n_queries=9, n_passages=30, seed=3)
    config = NegativesConfig(n_negatives=3)
    mined = mine_hard_negatives(judged, passages, encoder, config)
    n_kept = sum(len(row.passage_ids) for row in mined.negatives)
    n_dropped = sum(mined.report.dropped.values())
    assert n_dropped > 0
    assert (mined.report.mean_per_query, mined.report.mean_drawn_from) == (pytest.approx(n_kept / 9), None)
    assert mined.report.dropped_share == pytest.approx(n_dropped / (n_kept + n_dropped))


@pytest.mark.parametrize("strategy", ["top_k", "random"])
def test_same_text_passages_and_positives_of_a_same_text_query_never_come_back(strategy: str) -> None:
    queries = (Query("a", "What is steel?"), Query("b", "  what is STEEL? "), Query("c", "other"))
    judged = Judged(queries, {"a": {"p0": 1}, "b": {"p1": 1}, "c": {"p5": 1}})
    passages = [passage(0), passage(1), passage(2, "passage 0"), passage(3, "passage 1"), passage(4), passage(5)]
    vectors = {q.text: [1.0, 0.0] for q in queries} | {p.text: [1.0, 0.0] for p in passages}
    config = NegativesConfig(strategy=strategy, n_negatives=6, **NO_MARGIN)
    mined = {
        row.query_id: set(row.passage_ids)
        for row in mine_hard_negatives(judged, passages, FixedVectors(vectors), config).negatives
    }
    assert mined == {"a": {"p4", "p5"}, "b": {"p4", "p5"}, "c": {"p0", "p1", "p2", "p3", "p4"}}


def test_a_judged_irrelevant_passage_may_be_a_negative() -> None:
    judged = Judged((Query("q", "the query"),), {"q": {"p0": 1, "p1": 0}})
    mined = mine_hard_negatives(judged, [passage(0), passage(1)], on_a_line(1.0, 0.5), NegativesConfig())
    assert mined.negatives[0].passage_ids == ("p1",)


@pytest.mark.parametrize("strategy", ["top_k", "random"])
@pytest.mark.parametrize("n_passages", [2, 3])
def test_a_corpus_smaller_than_asked(strategy: str, n_passages: int) -> None:
    judged, passages, encoder = world(n_queries=1, n_passages=n_passages)
    config = NegativesConfig(strategy=strategy, n_negatives=10, **NO_MARGIN)
    mined = mine_hard_negatives(judged, passages, encoder, config)
    assert [row.passage_ids for row in mined.negatives] == [("p2",)[: n_passages - 2]]
    assert mined.report.warnings == ("1 of 1 queries have fewer than 10 negatives left",)


def test_what_is_drawn_is_counted_and_what_it_is_drawn_from_besides() -> None:
    """Of four passages, one is the positive of a and two are those of b: 3 and 2 candidates, of which 2 are drawn."""
    judged = Judged((Query("a", "the query"), Query("b", "another")), {"a": {"p0": 1}, "b": {"p1": 1, "p2": 1}})
    passages = [passage(i) for i in range(4)]
    vectors = {p.text: [score, 1.0] for p, score in zip(passages, (0.9, 0.8, 0.7, 0.1), strict=True)}
    encoder = FixedVectors({"the query": [1.0, 0.0], "another": [1.0, 0.0], **vectors})
    report = mine_hard_negatives(judged, passages, encoder, NegativesConfig(strategy="simans", n_negatives=2)).report
    assert (report.mean_per_query, report.mean_drawn_from) == (2.0, 2.5)


def test_no_negatives_asked_no_candidates_counted() -> None:
    judged, passages, encoder = world(n_queries=4, n_passages=20)
    mined = mine_hard_negatives(judged, passages, encoder, NegativesConfig(n_negatives=0))
    assert [row.passage_ids for row in mined.negatives] == [()] * 4
    assert (mined.report.dropped, mined.report.dropped_share, mined.report.warnings) == ({}, 0.0, ())


def test_no_queries_no_negatives() -> None:
    _, passages, encoder = world(n_queries=1, n_passages=3)
    mined = mine_hard_negatives(Judged((), {}), passages, encoder, NegativesConfig())
    assert (mined.negatives, mined.report.n_queries, mined.report.mean_per_query) == ((), 0, 0.0)


def test_random_draws_follow_the_seed_and_not_the_other_queries() -> None:
    judged, passages, encoder = world(n_queries=6, n_passages=200)
    config = NegativesConfig(strategy="random", n_negatives=5, **NO_MARGIN)
    first = mine_hard_negatives(judged, passages, encoder, config, seed=1).negatives
    assert mine_hard_negatives(judged, passages, encoder, config, seed=1).negatives == first
    assert mine_hard_negatives(judged, passages, encoder, config, seed=2).negatives != first
    alone = Judged(judged.queries[3:4], judged.qrels)
    assert mine_hard_negatives(alone, passages, encoder, config, seed=1).negatives == first[3:4]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(2, 25), st.integers(0, 8), st.integers(0, 3), st.sampled_from(["random", "top_k"])
)
def test_negatives_are_distinct_and_never_relevant(
    n_queries: int, n_passages: int, n_negatives: int, seed: int, strategy: str
) -> None:
    judged, passages, encoder = world(n_queries, n_passages, seed)
    config = NegativesConfig(strategy=strategy, n_negatives=n_negatives, **NO_MARGIN)
    for row in mine_hard_negatives(judged, passages, encoder, config, seed).negatives:
        assert len(row.passage_ids) == len(set(row.passage_ids)) == min(n_negatives, n_passages - 2)
        assert not set(row.passage_ids) & set(judged.qrels[row.query_id])


def test_an_unknown_strategy_lists_the_known_ones() -> None:
    judged, passages, encoder = world(1, 3)
    with pytest.raises(ConfigError, match=r"unknown `hardest`; one of: bm25, mixed, random"):
        mine_hard_negatives(judged, passages, encoder, NegativesConfig(strategy="hardest"))
