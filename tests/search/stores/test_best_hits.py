from __future__ import annotations

import pytest

from bessemer.search.stores.best_hits import MARGIN, best_of
from bessemer.types import Hits

TIED: Hits = [("best", 2.0), *((f"{number:03}", 1.0) for number in range(300)), ("last", 0.5)]


def test_all_that_tie_with_the_last_place_are_fetched() -> None:
    limits = []

    def fetch(limit: int) -> Hits:
        limits.append(limit)
        return TIED[:limit]

    assert best_of(fetch, 3) == [("best", 2.0), ("299", 1.0), ("298", 1.0)]
    assert limits == [3 + MARGIN, 4 * (3 + MARGIN), 16 * (3 + MARGIN)]


def test_one_request_where_no_tie_reaches_the_end() -> None:
    limits: list[int] = []
    assert best_of(lambda limit: limits.append(limit) or TIED[:limit], 1) == [("best", 2.0)]  # type: ignore[func-returns-value]
    assert len(limits) == 1


def test_an_engine_that_gives_no_more() -> None:
    assert best_of(lambda limit: TIED[:limit], 2, most=50) == [("best", 2.0), ("048", 1.0)]


def test_no_hits_are_asked_for() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        best_of(lambda limit: TIED, 0)
