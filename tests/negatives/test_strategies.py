"""Every strategy against numbers worked out by hand or by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bessemer.config import NegativesConfig
from bessemer.errors import ConfigError
from bessemer.negatives import drawn, mine_hard_negatives
from bessemer.negatives.strategies import STRATEGIES, parts
from bessemer.search.bm25 import BM25
from bessemer.search.fusion import reciprocal_rank_fusion
from bessemer.types import Judged, Passage, Query
from fixed_vectors import FixedVectors

OPEN = {"relative_margin": 0.0}
TEXTS = [
    "granite countertops resist heat",
    "marble countertops stain from wine and lemon",
    "granite is an igneous rock",
    "sealing granite countertops every year",
    "wine stains on linen",
    "heat pumps resist frost",
]
QUERY = "do granite countertops resist heat"


def kitchen(scores: list[float], positives: dict[str, int], documents: str = "aabbcc"):
    """Six passages that score as given; dense order is the order of the scores."""
    passages = [Passage(f"p{i}", documents[i], text) for i, text in enumerate(TEXTS)]
    vectors = {QUERY: [1.0, 0.0]} | {text: [score, 1.0] for text, score in zip(TEXTS, scores, strict=True)}
    return Judged((Query("q", QUERY),), {"q": positives}), passages, FixedVectors(vectors)


def mined(world, **settings):
    (row,) = mine_hard_negatives(*world, NegativesConfig(**{**OPEN, **settings})).negatives
    return row


def test_bm25_is_the_lexical_ranking_with_the_model_s_own_scores() -> None:
    world = kitchen([0.9, 0.1, 0.2, 0.3, 0.4, 0.5], {"p0": 1})
    (ranking,) = BM25.build([f"p{i}" for i in range(6)], TEXTS).search([QUERY], 6)
    expected = [passage_id for passage_id, _ in ranking if passage_id != "p0"]
    row = mined(world, strategy="bm25", n_negatives=5)
    assert row.passage_ids == tuple(expected)
    assert "p4" not in row.passage_ids  # no word of the query
    assert row.scores == pytest.approx([[0.9, 0.1, 0.2, 0.3, 0.4, 0.5][int(p[1])] for p in expected])


def test_hybrid_candidates_are_the_reciprocal_rank_fusion_of_both_lanes() -> None:
    scores = [0.9, 0.1, 0.2, 0.3, 0.4, 0.5]
    world = kitchen(scores, {"p0": 1})
    dense = [(f"p{i}", scores[i]) for i in np.argsort(-np.array(scores))]
    (lexical,) = BM25.build([f"p{i}" for i in range(6)], TEXTS).search([QUERY], 6)
    fused = [passage_id for passage_id, _ in reciprocal_rank_fusion([dense, lexical]) if passage_id != "p0"]
    assert mined(world, candidates="hybrid", n_negatives=5).passage_ids == tuple(fused)


def test_neighbours_of_the_positives_take_each_passage_at_its_best() -> None:
    passages = [Passage(f"p{i}", "d", f"passage {i}") for i in range(5)]
    vectors = {
        "q": [0.0, 0.0, 1.0],
        "passage 0": [1.0, 0.0, 0.5],  # positive
        "passage 1": [0.0, 1.0, 0.5],  # positive
        "passage 2": [0.9, 0.0, 0.1],  # 0.95 to the first
        "passage 3": [0.3, 0.8, 0.2],  # 0.9 to the second, 0.4 to the first
        "passage 4": [0.1, 0.0, 0.9],  # 0.55 to the first: the nearest to the query itself
    }
    judged = Judged((Query("q", "q"),), {"q": {"p0": 1, "p1": 1}})
    world = (judged, passages, FixedVectors(vectors))
    assert mined(world, anchor="positive", n_negatives=3).passage_ids == ("p2", "p3", "p4")
    assert mined(world, anchor="positive", n_negatives=3).scores == pytest.approx((0.1, 0.2, 0.9))
    assert mined(world, anchor="query", n_negatives=3).passage_ids == ("p4", "p3", "p2")


def test_lexical_neighbours_of_a_positive() -> None:
    world = kitchen([0.9, 0.1, 0.2, 0.3, 0.4, 0.5], {"p4": 1})
    assert mined(world, strategy="bm25", anchor="positive", n_negatives=5).passage_ids == ("p1",)  # only wine is shared


def test_same_document_gives_its_other_passages_nearest_first() -> None:
    world = kitchen([0.9, 0.1, 0.2, 0.3, 0.4, 0.5], {"p0": 1, "p2": 1}, documents="aaabbb")
    assert mined(world, strategy="same_document", n_negatives=4).passage_ids == ("p1",)
    world = kitchen([0.9, 0.1, 0.2, 0.3, 0.4, 0.5], {"p0": 1}, documents="aababb")
    assert mined(world, strategy="same_document", n_negatives=4).passage_ids == ("p3", "p1")


def test_simans_probabilities_by_hand() -> None:
    scores = [0.6, 0.9, 0.5, 0.3, 0.1, 0.2]
    row = mined(kitchen(scores, {"p0": 1}), strategy="simans", simans_a=0.5, simans_b=-0.2, n_negatives=2)
    ranked = [0.9, 0.5, 0.3, 0.2, 0.1]
    deviation = math.sqrt(sum((s - 0.4) ** 2 for s in ranked) / 5)
    weights = [math.exp(-0.5 * ((s - 0.6) / deviation + 0.2) ** 2) for s in ranked]
    assert row.passage_ids == ("p1", "p2", "p3", "p5", "p4")
    assert row.probabilities == pytest.approx([w / sum(weights) for w in weights], rel=1e-5)
    assert max(range(5), key=lambda i: row.probabilities[i]) == 1  # just below the positive, not above it


def test_simans_standardises_over_all_train_queries_and_a_margin_renormalises() -> None:
    queries = (Query("q", "q"), Query("r", "r"))
    passages = [Passage(f"p{i}", "d", f"passage {i}") for i in range(4)]
    vectors = {"q": [1.0, 0.0], "r": [0.0, 1.0]}
    vectors |= {"passage 0": [0.8, 0.7], "passage 1": [0.7, 0.1], "passage 2": [0.3, 0.5], "passage 3": [0.1, 0.9]}
    judged = Judged(queries, {"q": {"p0": 1}, "r": {"p0": 1}})
    config = NegativesConfig(strategy="simans", relative_margin=0.8)
    rows = mine_hard_negatives(judged, passages, FixedVectors(vectors), config).negatives
    deviation = float(np.std([0.7, 0.3, 0.1, 0.9, 0.5, 0.1]))
    weights = [math.exp(-0.5 * ((s - 0.8) / deviation) ** 2) for s in (0.3, 0.1)]  # 0.7 > 0.8 * 0.8 is out
    assert rows[0].passage_ids == ("p2", "p3")
    assert rows[0].probabilities == pytest.approx([w / sum(weights) for w in weights], rel=1e-5)


def test_a_file_holds_one_seeded_draw_of_simans() -> None:
    row = mined(kitchen([0.6, 0.9, 0.5, 0.3, 0.1, 0.2], {"p0": 1}), strategy="simans")
    firsts = [drawn([row], 2, seed)[0].passage_ids for seed in range(2000)]
    assert drawn([row], 2, 7)[0].passage_ids == firsts[7]
    assert all(len(set(ids)) == 2 for ids in firsts)
    assert drawn([row], 2, 7)[0].probabilities is None
    for passage_id, probability in zip(row.passage_ids, row.probabilities, strict=True):
        share = np.mean([ids[0] == passage_id for ids in firsts])
        assert abs(share - probability) < 5 * math.sqrt(probability * (1 - probability) / 2000)


def test_mixed_shares_are_kept_filled_up_and_never_repeat() -> None:
    scores = [0.9, 0.1, 0.2, 0.3, 0.4, 0.5]
    world = kitchen(scores, {"p0": 1}, documents="aabbcc")
    row = mined(world, strategy="mixed", shares={"top_k": 0.5, "same_document": 0.5}, n_negatives=4)
    # top_k: p5, p4; same_document has p1 alone; top_k goes on with p3
    assert row.passage_ids == ("p5", "p4", "p1", "p3")
    assert row.probabilities == (0.25,) * 4  # training draws: the first part goes no sooner than the others
    row = mined(world, strategy="mixed", shares={"top_k": 1, "bm25": 1}, n_negatives=4)
    assert len(set(row.passage_ids)) == 4


@pytest.mark.parametrize("strategy", ["mixed", *STRATEGIES])
def test_a_query_whose_candidates_all_go_has_no_negatives(strategy: str) -> None:
    world = kitchen([0.1, 0.5, 0.6, 0.7, 0.8, 0.9], {"p0": 1})  # all others are nearer than the positive
    found = mine_hard_negatives(*world, NegativesConfig(strategy=strategy, relative_margin=0.95, n_negatives=4))
    (row,) = found.negatives
    assert row.passage_ids == ()
    assert drawn(found.negatives, 4, 7)[0].passage_ids == ()


def test_shares_are_counted_by_largest_remainder() -> None:
    def counts(n, **shares):
        return [(name, k) for name, _, k in parts(NegativesConfig(strategy="mixed", shares=shares, n_negatives=n))]

    assert counts(4, top_k=0.5, same_document=0.25, random=0.25) == [("top_k", 2), ("same_document", 1), ("random", 1)]
    assert counts(5, top_k=2, random=1) == [("top_k", 3), ("random", 2)]  # 3.33 and 1.67
    assert counts(1, top_k=1, random=1) == [("top_k", 1), ("random", 0)]


def test_unknown_names_and_shares_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown `nearest`; one of: bm25, mixed, random, same_document, simans, top_k"
    ):
        parts(NegativesConfig(strategy="nearest"))
    with pytest.raises(ConfigError, match="unknown `bm26`"):
        parts(NegativesConfig(strategy="mixed", shares={"bm26": 1}))
    for shares in ({}, {"top_k": 0}, {"mixed": 1}, "top_k"):
        with pytest.raises(ValueError, match="shares"):
            NegativesConfig(strategy="mixed", shares=shares)
    assert NegativesConfig(shares="top_k=0.5,random=0.5").shares == {"top_k": 0.5, "random": 0.5}
    with pytest.raises(ValueError, match=r"`random` has no share; write strategy=share pairs, such as top_k=0.5"):
        NegativesConfig(shares="top_k=0.5,random")
