from __future__ import annotations

import numpy as np
import pytest

from bessemer.config import NegativesConfig
from bessemer.negatives import candidates, mine_hard_negatives
from bessemer.negatives.denoise import relative_margin_of, too_close
from bessemer.shingles import shingles
from bessemer.types import Judged, Passage, Query
from fixed_vectors import FixedVectors

SCORES = [0.9, 0.8, 0.75, 0.7, 0.1, -0.3]


def dropped(positives: list[float], relative: float | None, absolute: float | None) -> tuple[list[float], str]:
    found, given = np.array(SCORES, dtype=np.float32), np.array(positives, dtype=np.float32)
    close, rule = too_close(found, given, relative, absolute)
    return [score for score, is_close in zip(SCORES, close, strict=True) if is_close], rule


@pytest.mark.parametrize(
    ("positives", "relative", "absolute", "expected", "rule"),
    [
        ([0.8], 0.95, None, [0.9, 0.8], "relative margin"),  # limit 0.76
        ([0.95, 0.8], 0.95, None, [0.9, 0.8], "relative margin"),  # the lowest positive counts
        ([0.8], None, 0.08, [0.9, 0.8, 0.75], "absolute margin"),  # limit 0.72
        ([0.8], 0.95, 0.08, [0.9, 0.8, 0.75], "relative or absolute margin"),  # min(0.76, 0.72)
        ([0.8], 0.8, 0.08, [0.9, 0.8, 0.75, 0.7], "relative or absolute margin"),  # min(0.64, 0.72)
        ([0.8], None, None, [], "no margin"),
        # With s+ <= 0 a share of it would lie above it: the absolute margin serves, limit -0.1 - 0.3.
        ([-0.1], 0.95, 0.3, SCORES, "absolute margin"),
        ([-0.1], 0.95, 0.1, [0.9, 0.8, 0.75, 0.7, 0.1], "absolute margin"),  # limit -0.2
        ([0.0, 0.5], 0.95, None, [0.9, 0.8, 0.75, 0.7, 0.1], "above a positive with score <= 0"),
        ([-0.2], None, None, [], "no margin"),
    ],
)
def test_margins_by_hand(
    positives: list[float], relative: float | None, absolute: float | None, expected: list[float], rule: str
) -> None:
    assert dropped(positives, relative, absolute) == (expected, rule)


def test_a_score_at_the_limit_stays() -> None:
    close, _ = too_close(np.array([0.5, 0.51], dtype=np.float32), np.array([1.0], dtype=np.float32), 0.5, None)
    assert close.tolist() == [False, True]


@pytest.mark.parametrize(
    ("strategy", "given", "expected"),
    [("top_k", None, 0.95), ("bm25", None, 0.95), ("simans", None, None), ("simans", 0.9, 0.9), ("top_k", 0.0, None)],
)
def test_the_default_margin_is_off_for_simans_alone_and_zero_turns_it_off(strategy, given, expected) -> None:
    assert relative_margin_of(strategy, NegativesConfig(relative_margin=given)) == expected


WORDS = "the cat sat on the warm mat by the old door of the house"


def test_near_duplicates_of_a_positive_need_vectors_and_words_alike() -> None:
    """p1 is the positive; p2 changes one word of thirteen, p3 has its vector but not its words, p4 the reverse."""
    texts = {
        "p1": WORDS,
        "p2": WORDS.replace("house", "farm"),  # 10 of 11 trigrams shared by both, 12 in all: Jaccard 10 / 12
        "p3": "a dog slept under a cold bench in a new barn",
        "p4": WORDS.upper(),
        "p5": "nothing alike",
    }
    vectors = {"q": [1.0, 0.0], texts["p1"]: [0.5, 0.5], texts["p2"]: [0.5, 0.5], texts["p3"]: [0.45, 0.45]}
    vectors |= {texts["p4"]: [0.4, -0.4], texts["p5"]: [0.1, 0.9]}
    passages = [Passage(passage_id, passage_id, text) for passage_id, text in texts.items()]
    judged = Judged((Query("q", "q"),), {"q": {"p1": 1}})
    config = NegativesConfig(n_negatives=5, relative_margin=0.0)
    mined = mine_hard_negatives(judged, passages, FixedVectors(vectors), config)
    assert mined.negatives[0].passage_ids == ("p3", "p4", "p5")
    assert mined.report.dropped == {"near-duplicate of a positive": 1}


def test_the_words_of_a_passage_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a weak model everything looks alike: each of four passages meets the positives of eight queries."""
    read: list[str] = []
    monkeypatch.setattr(candidates, "shingles", lambda text, n: read.append(text) or shingles(text, n))
    passages = [Passage(f"p{i}", f"d{i}", f"w{i} x{i} y{i} z{i}") for i in range(4)]
    queries = tuple(Query(f"q{i}", f"question {i}") for i in range(8))
    judged = Judged(queries, {query.query_id: {f"p{i % 4}": 1} for i, query in enumerate(queries)})
    texts = [*(query.text for query in queries), *(passage.indexed_text for passage in passages)]
    alike = FixedVectors({text: [1.0, 0.0] for text in texts})
    mined = mine_hard_negatives(judged, passages, alike, NegativesConfig(relative_margin=0.0))
    assert [len(row.passage_ids) for row in mined.negatives] == [3] * 8
    assert sorted(read) == sorted(p.indexed_text for p in passages)


def test_a_reranker_vetoes_what_it_scores_as_high_as_the_lowest_positive_and_reads_only_what_matters() -> None:
    passages = [Passage(f"p{i}", f"d{i}", f"passage {i}") for i in range(9)]
    vectors = {"q": [1.0, 0.0]} | {f"passage {i}": [1 - i / 10, 1.0] for i in range(9)}
    judged = Judged((Query("q", "q"),), {"q": {"p0": 1, "p1": 2}})
    opinions = {"passage 0": 0.9, "passage 1": 0.5, "passage 2": 0.7, "passage 4": 0.5, "passage 3": 0.49}
    asked = []

    def reranker(pairs):
        asked.extend(pairs)
        return [opinions.get(text, 0.0) for _, text in pairs]

    config = NegativesConfig(n_negatives=2, relative_margin=0.0)
    mined = mine_hard_negatives(judged, passages, FixedVectors(vectors), config, reranker=reranker)
    assert mined.negatives[0].passage_ids == ("p3", "p5")
    assert mined.report.dropped == {"reranker": 2}  # p2 and p4: 0.5 is as high as the lowest positive
    assert asked == [("q", f"passage {i}") for i in (0, 1, 2, 3, 4, 5)]  # the positives and twice two candidates
