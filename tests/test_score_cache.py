from __future__ import annotations

from pathlib import Path

from bessemer.score_cache import KeptScore, ScoreCache, score_key


def test_what_is_put_outlives_the_cache_and_is_shared(tmp_path: Path) -> None:
    with (
        ScoreCache(tmp_path / "new" / "scores.sqlite") as cache,
        ScoreCache(tmp_path / "new" / "scores.sqlite") as other,
    ):
        assert cache.get("a") is None
        cache.put("a", KeptScore(-0.1, True))
        other.put("b", KeptScore(1 / 3, False))
        cache.put("b", KeptScore(2 / 3, False))
        assert other.get("a") == KeptScore(-0.1, True)
    with ScoreCache(tmp_path / "new" / "scores.sqlite") as again:
        assert (again.get("a"), again.get("b")) == (KeptScore(-0.1, True), KeptScore(2 / 3, False))


def test_keys_tell_their_parts_apart() -> None:
    keys = [
        score_key("a", "b"),
        score_key("ab", ""),
        score_key("a", ["b"]),
        score_key("a", ["b", ""]),
        score_key("b", "a"),
    ]
    assert len(set(keys)) == len(keys)
    assert score_key("a", ("b",)) == score_key("a", ["b"])
