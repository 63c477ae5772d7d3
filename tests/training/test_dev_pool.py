from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from bessemer.training.dev_pool import EvaluationPool, build_dev_pool
from bessemer.types import Judged, Passage, Query
from fixed_vectors import FixedVectors


def passages(n: int) -> tuple[Passage, ...]:
    return tuple(Passage(f"p{i}", "d", f"text {i}") for i in range(n))


def test_members_and_statement_of_a_large_corpus() -> None:
    corpus = passages(2500)
    dev = Judged(
        (Query("a", "a"), Query("b", "b"), Query("c", "c"), Query("d", "d")),
        {"a": {"p1": 1, "p2": 0}, "b": {"p3": 2, "gone": 1}, "c": {"gone": 1}},
    )
    retrieved = [[[("p10", 1.0), ("p11", 0.5)], [("p12", 1.0)]], [[("p10", 9.0)], []]]
    pool = build_dev_pool(dev, corpus, retrieved, seed=7)
    drawn = sorted((p.passage_id for p in corpus), key=lambda p: hashlib.sha256(f"7:{p}".encode()).digest())[:2000]
    members = {"p1", "p3", "p10", "p11", "p12", *drawn}
    assert [p.passage_id for p in pool.passages] == [p.passage_id for p in corpus if p.passage_id in members]
    assert [q.query_id for q in pool.queries] == ["a", "b"]
    assert pool.statement == (
        f"2 dev queries over {len(members)} of 2500 passages: their positives, the top 100 of base and BM25, "
        "2000 random ones; 2 dev queries without a relevant passage left out"
    )


def test_a_small_corpus_is_in_whole_and_said_so() -> None:
    dev = Judged((Query("a", "a"),), {"a": {"p1": 1}})
    pool = build_dev_pool(dev, passages(5), [], seed=7)
    assert len(pool.passages) == 5
    assert pool.statement == (
        "1 dev queries over 5 of 5 passages: their positives, the top 100 of base and BM25, 5 random ones"
    )


def test_growth_moves_no_random_passage_out_while_there_is_room() -> None:
    dev = Judged((Query("a", "a"),), {"a": {"p1": 1}})
    before = {p.passage_id for p in build_dev_pool(dev, passages(2500), [], seed=1).passages}
    after = {p.passage_id for p in build_dev_pool(dev, passages(2600), [], seed=1).passages}
    assert len(before & after) > 1850  # 2,000 * 2500 / 2600 = 1,923 of the same draw


def pool_of(scores: dict[str, float], relevant: dict[str, int]) -> tuple[EvaluationPool, FixedVectors]:
    corpus = tuple(Passage(name, "d", name) for name in scores)
    encoder = FixedVectors({"query": [1.0], **{name: [score] for name, score in scores.items()}})
    return EvaluationPool((Query("q", "query"),), {"q": relevant}, corpus, ""), encoder


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [
        ({"a": 1}, 1.0),
        ({"c": 1}, 1 / 2),  # third: 1 / log2(4)
        ({"a": 1, "c": 1}, 1.5 / (1 + 1 / math.log2(3))),
        ({"a": 1, "b": 2}, (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))),
    ],
)
def test_scores_by_hand(relevant: dict[str, int], expected: float) -> None:
    pool, encoder = pool_of({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.1}, relevant)
    assert pool.scores(encoder) == pytest.approx(np.array([expected]))


def test_below_rank_ten_counts_nothing() -> None:
    scores = {f"p{i:02}": 1 - i / 100 for i in range(12)}
    pool, encoder = pool_of(scores, {"p09": 1})
    assert pool.scores(encoder) == pytest.approx(np.array([1 / math.log2(11)]))
    pool, encoder = pool_of(scores, {"p10": 1})
    assert pool.scores(encoder).tolist() == [0.0]


def test_ties_at_the_edge_go_to_the_larger_id_as_in_every_ranked_list() -> None:
    scores = {f"p{i:02}": 0.5 for i in range(12)}
    pool, encoder = pool_of(scores, {"p11": 1})
    assert pool.scores(encoder).tolist() == [1.0]
    pool, encoder = pool_of(scores, {"p00": 1})
    assert pool.scores(encoder).tolist() == [0.0]


def test_the_base_models_scores_follow_from_what_it_retrieved_from_the_whole_corpus() -> None:
    random = np.random.default_rng(5)
    corpus = passages(2300)
    queries = tuple(Query(f"q{i}", f"query {i}") for i in range(6))
    vectors = {text: random.normal(size=4) for text in [p.text for p in corpus] + [q.text for q in queries]}
    matrix = np.array([vectors[p.text] for p in corpus], dtype=np.float32)
    base = {}
    for query in queries:
        scores = matrix @ vectors[query.text].astype(np.float32)
        base[query.query_id] = [(f"p{i}", float(scores[i])) for i in np.argsort(-scores)[:100]]
    # Ranks 1, 3, 10 and 11 of their query, one far below, and one that is not in the corpus.
    relevant = [base["q0"][0][0], base["q1"][2][0], base["q2"][9][0], base["q3"][10][0], base["q4"][99][0], "gone"]
    dev = Judged(queries, {query.query_id: {p: 1} for query, p in zip(queries, relevant, strict=True)})
    pool = build_dev_pool(dev, corpus, [list(base.values())], seed=1, base=base)
    assert len(pool.passages) < 2300
    assert pool.base == pytest.approx([1.0, 0.5, 1 / math.log2(11), 0.0, 0.0])
    assert pool.scores(FixedVectors(vectors)) == pytest.approx(np.array(pool.base))
