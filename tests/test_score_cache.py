from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bessemer.errors import ArtifactError, BessemerError, ConfigError
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


def test_what_is_no_cache_and_what_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database at all, but long enough to be looked at " * 50)
    with pytest.raises(ArtifactError, match="move it away, and all is scored anew"):
        ScoreCache(tmp_path / "file")
    with pytest.raises(ConfigError, match="pass --workspace with another folder"):
        ScoreCache(tmp_path / "file" / "scores.sqlite")
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE scores (x)")
    with pytest.raises(ArtifactError, match="cannot be read"):
        ScoreCache(tmp_path / "other")


def test_a_full_disk_is_said_with_the_fix(tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        n_pages = cache._connection.execute("PRAGMA page_count").fetchone()[0]
        cache._connection.execute(f"PRAGMA max_page_count = {n_pages}")
        with pytest.raises(BessemerError, match=r"is full.*free space and run the same command again"):
            fill(cache)


def fill(cache: ScoreCache) -> None:
    for i in range(10_000):
        cache.put(f"{i:064}", KeptScore(0.0, False))
