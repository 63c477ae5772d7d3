"""Verdicts on queries that form one group: its interval is a point, which must not pass for certainty."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bessemer.evaluation.verdict import verdict
from bessemer.types import Comparison

RIVAL = Comparison("tuned", "hybrid-tuned", "nDCG@10", 0.01, 0.01, 0.01, 1.0, 11)


@pytest.mark.parametrize(
    ("rival", "words"),
    [
        (RIVAL, "is ahead of tuned by 0.0100 nDCG@10 [+0.0100, +0.0100], which may be chance."),
        (replace(RIVAL, ci_low=0.001, ci_high=0.02, p=0.05), "which may be chance."),
        (replace(RIVAL, ci_low=0.001, ci_high=0.02, p=0.049), "hybrid-tuned beats tuned"),
    ],
)
def test_a_rival_beats_the_tuned_model_only_with_a_small_p(rival: Comparison, words: str) -> None:
    primary = Comparison("base", "tuned", "nDCG@10", 0.04, 0.04, 0.04, 1.0, 11)
    means = {"base": 0.5, "tuned": 0.54}
    found = verdict(primary, None, means=means, n_clusters=1, origin_all_extracted=False, rivals=[rival])
    assert words in found.reason


@pytest.mark.parametrize("difference", [0.04, -0.04])
def test_one_group_of_queries_is_no_evidence(difference: float) -> None:
    primary = Comparison("base", "tuned", "nDCG@10", difference, difference, difference, 1.0, 11)
    found = verdict(
        primary, None, means={"base": 0.5, "tuned": 0.5 + difference}, n_clusters=1, origin_all_extracted=False
    )
    assert found.decision == "not enough evidence"
    assert found.reason.startswith("all queries depend on each other, so tuned and base cannot be told apart")


def test_two_groups_may_say_that_it_is_worse() -> None:
    primary = Comparison("base", "tuned", "nDCG@10", -0.04, -0.05, -0.03, 0.5, 11)
    found = verdict(primary, None, means={"base": 0.5, "tuned": 0.46}, n_clusters=2, origin_all_extracted=False)
    assert found.decision == "keep base"
    assert found.reason.startswith("tuned is worse than base")
