"""Whether a question finds its passage, and how easily: too hard may be wrong, too easy proves nothing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from bessemer.questions.generate import Draft
from bessemer.search.retriever import Retriever
from bessemer.types import Filtered

STAGE = "round trip"


def round_trip(
    drafts: Sequence[Draft], systems: Mapping[str, Retriever], k: int
) -> tuple[Filtered[Draft], dict[str, dict[str, float]]]:
    """Questions one of whose passages stands among the first ``k`` of one of ``systems`` (0: all questions); and of
    those the share whose passage is the very first, by split and system: the easiness meter."""
    texts = [draft.text for draft in drafts]
    found = {name: system.search(texts, max(k, 1)) for name, system in systems.items()}
    kept, dropped = [], []
    firsts: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for i, draft in enumerate(drafts):
        ranks = {name: _rank(draft, [passage_id for passage_id, _ in hits[i]]) for name, hits in found.items()}
        if k and min(ranks.values()) >= k:
            dropped.append(draft.dropped(STAGE, f"its passage is not among the first {k} of {' or '.join(systems)}"))
            continue
        kept.append(draft)
        for name, rank in ranks.items():
            firsts[draft.split][name].append(rank == 0)
    easiness = {
        split: {name: sum(first) / len(first) for name, first in of_split.items()} for split, of_split in firsts.items()
    }
    return Filtered(tuple(kept), tuple(dropped), k), easiness


def _rank(draft: Draft, ranked: Sequence[str]) -> float:
    """From 0; infinite where no passage of the question stands in the list."""
    return min((place for place, passage_id in enumerate(ranked) if passage_id in draft.passage_ids), default=math.inf)
