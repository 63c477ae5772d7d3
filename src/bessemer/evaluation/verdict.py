"""Ship, keep the base, or not enough evidence: the rule, and its reason in plain English with the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bessemer.evaluation.clusters import MIN_CLUSTERS
from bessemer.types import Comparison

Decision = Literal["ship", "keep base", "not enough evidence"]
_LEVEL = 0.05


@dataclass(frozen=True)
class GeneralResult:
    """nDCG@10 outside the domain; ``difference`` is tuned - base, ``margin`` what may be lost."""

    name: str
    n_queries: int
    base: float
    tuned: float
    difference: float
    ci_low: float
    ci_high: float
    margin: float

    @property
    def within_margin(self) -> bool:
        return self.difference >= -self.margin


@dataclass(frozen=True)
class Verdict:
    decision: Decision
    reason: str


def verdict(
    primary: Comparison,
    general: GeneralResult | None,
    *,
    means: Mapping[str, float],
    n_clusters: int,
    origin_all_extracted: bool,
    rivals: Sequence[Comparison] = (),
    notes: Sequence[str] = (),
) -> Verdict:
    """Decide on ``primary`` (treatment - baseline in nDCG@10).

    `ship` when its interval lies above 0 and the general set lost no more than its margin; `keep base` when the
    interval lies below 0 or the margin is broken; else `not enough evidence`. Two things stop a `ship`: queries that
    were all extracted from the documents, and fewer than 20 clusters without a sign-flip p below 0.05 (the bootstrap is
    too narrow on few clusters, that test is not). ``means``: nDCG@10 by system; ``rivals``: other systems minus the
    treatment, mentioned where they beat it; ``notes`` end the reason.
    """
    few = n_clusters < MIN_CLUSTERS and primary.p >= _LEVEL
    one_group = n_clusters < 2  # its interval is a point that says nothing
    parts = [_primary_sentence(primary, means, one_group), _general_sentence(general, primary.treatment)]
    decision: Decision = "not enough evidence"
    if (primary.ci_high < 0 and not one_group) or (general is not None and not general.within_margin):
        decision = "keep base"
    elif primary.ci_low > 0 and origin_all_extracted:
        parts.append(
            "All test questions were extracted from the documents, not asked by people: "
            "that is not enough to ship on; bring judged questions of your users."
        )
    elif primary.ci_low > 0 and few:
        parts.append(
            f"The test queries form only {n_clusters} independent groups and a sign-flip test over them gives "
            f"p = {primary.p:.2f}: too few to ship on."
        )
    elif primary.ci_low > 0:
        decision = "ship"
    parts += [_rival_sentence(rival) for rival in rivals if rival.difference > 0]
    return Verdict(decision, " ".join(part for part in (*parts, *notes) if part))


def _primary_sentence(primary: Comparison, means: Mapping[str, float], one_group: bool) -> str:
    base, tuned = means[primary.baseline], means[primary.treatment]
    percent = f" ({primary.difference / base:+.1%})" if base > 0 else ""
    if one_group:
        what = f"all queries depend on each other, so {primary.treatment} and {primary.baseline} cannot be told apart"
    elif primary.ci_low > 0:
        what = f"{primary.treatment} is better than {primary.baseline}"
    elif primary.ci_high < 0:
        what = f"{primary.treatment} is worse than {primary.baseline}"
    else:
        what = f"{primary.treatment} and {primary.baseline} cannot be told apart"
    return (
        f"{what}: {primary.measure} {tuned:.4f} against {base:.4f}, difference {primary.difference:+.4f}{percent}, "
        f"95% interval [{primary.ci_low:+.4f}, {primary.ci_high:+.4f}] over {primary.n_queries} queries."
    )


def _general_sentence(general: GeneralResult | None, treatment: str) -> str:
    if general is None:
        return "No general set was evaluated, so what was forgotten outside the domain is unknown."
    what = f"gained {general.difference:.4f}"
    if general.difference < 0:
        margin = "within" if general.within_margin else "more than"
        what = f"lost {-general.difference:.4f}, {margin} the margin of {general.margin:g}"
    return f"On the general set {general.name} ({general.n_queries} queries) {treatment} {what}."


def _rival_sentence(rival: Comparison) -> str:
    figures = f"by {rival.difference:.4f} {rival.measure} [{rival.ci_low:+.4f}, {rival.ci_high:+.4f}]"
    if rival.ci_low > 0 and rival.p < _LEVEL:
        return f"{rival.treatment} beats {rival.baseline} {figures}: consider serving it."
    return f"{rival.treatment} is ahead of {rival.baseline} {figures}, which may be chance."
