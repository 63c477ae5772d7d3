from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bessemer.errors import ArtifactError, BessemerError, ConfigError
from bessemer.sqlite_file import SqliteFile

TABLE = "things (key TEXT PRIMARY KEY, value REAL NOT NULL)"


def test_what_is_no_cache_and_what_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database at all, but long enough to be looked at " * 50)
    with pytest.raises(ArtifactError, match="move it away, and it is made anew"):
        SqliteFile(tmp_path / "file", TABLE)
    with pytest.raises(ConfigError, match="pass --workspace with another folder"):
        SqliteFile(tmp_path / "file" / "things.sqlite", TABLE)
    with SqliteFile(tmp_path / "other", "things (x)"):
        pass
    with pytest.raises(ArtifactError, match="it holds other tables"):
        SqliteFile(tmp_path / "other", TABLE)


def test_in_memory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SqliteFile(None, TABLE) as file:
        file.write("INSERT INTO things VALUES (?, ?)", ("a", 1.0))
        assert file.rows("SELECT * FROM things") == [("a", 1.0)]
    assert not list(tmp_path.iterdir())


def test_several_processes_may_share_it(tmp_path: Path) -> None:
    with SqliteFile(tmp_path / "new" / "a", TABLE) as one, SqliteFile(tmp_path / "new" / "a", TABLE) as other:
        one.write("INSERT INTO things VALUES (?, ?)", ("a", 1.0))
        assert other.rows("SELECT value FROM things WHERE key = ?", ("a",)) == [(1.0,)]


def test_a_full_disk_is_said_with_the_fix(tmp_path: Path) -> None:
    with SqliteFile(tmp_path / "a", TABLE) as file:
        ((n_pages,),) = file.rows("PRAGMA page_count")
        file.rows(f"PRAGMA max_page_count = {n_pages}")
        with pytest.raises(BessemerError, match=r"is full.*free space and run the same command again"):
            fill(file)


def fill(file: SqliteFile, n: int = 10_000) -> None:
    for i in range(n):
        file.write("INSERT INTO things VALUES (?, ?)", (f"{i:064}", 0.0))


def test_a_file_that_another_process_holds_is_not_to_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer.sqlite_file.WAIT_SECONDS", 0.01)
    with closing(sqlite3.connect(tmp_path / "a", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match=r"is locked\): another process holds it.*pass --workspace") as caught:
            SqliteFile(tmp_path / "a", TABLE)
    assert "move" not in str(caught.value)


def test_damage_within_a_file_names_it(tmp_path: Path) -> None:
    with SqliteFile(tmp_path / "a", TABLE) as file:
        fill(file, 2_000)
    content = bytearray((tmp_path / "a").read_bytes())
    content[3 * 4096 :] = b"\xff" * (len(content) - 3 * 4096)
    (tmp_path / "a").write_bytes(content)
    with (
        SqliteFile(tmp_path / "a", TABLE) as file,
        pytest.raises(ArtifactError, match=r"a: cannot be read .*move it away"),
    ):
        file.rows("SELECT * FROM things")
