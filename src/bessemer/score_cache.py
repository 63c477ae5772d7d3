"""Scores of a teacher on disk: a pair that was scored once is never scored again, whatever becomes of the process."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from bessemer.errors import ArtifactError, BessemerError, ConfigError

WAIT_SECONDS = 60.0
"""For another process that writes at the same moment."""


class KeptScore(NamedTuple):
    """``is_cut``: the passage was shortened for it."""

    value: float
    is_cut: bool


def score_key(*identity: str | Sequence[str]) -> str:
    """sha256 over all that shapes a score: the teacher, its template, and the texts."""
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


class ScoreCache:
    """Scores by key in one SQLite file that several processes may share. Each outlives the process once put."""

    def __init__(self, file: Path) -> None:
        """Raises ConfigError where the folder cannot be written, ArtifactError where the file is no such cache."""
        self._file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(file, isolation_level=None, timeout=WAIT_SECONDS)
        except (OSError, sqlite3.OperationalError) as error:
            reason = f"{file}: the cache cannot be made ({error})"
            raise ConfigError(f"{reason}; pass --workspace with another folder") from None
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # outlives the process, if not the power
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, value REAL NOT NULL, is_cut INTEGER NOT NULL)"
                " WITHOUT ROWID"
            )
            self.get("")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ArtifactError(f"{file}: cannot be read ({error}); move it away, and all is scored anew") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def get(self, key: str) -> KeptScore | None:
        row = self._connection.execute("SELECT value, is_cut FROM scores WHERE key = ?", (key,)).fetchone()
        return KeptScore(row[0], bool(row[1])) if row else None

    def put(self, key: str, score: KeptScore) -> None:
        """Raises BessemerError where it cannot be written, as on a full disk."""
        try:
            self._connection.execute("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", (key, *score))
        except sqlite3.OperationalError as error:
            advice = "free space and run the same command again: what was scored is kept"
            raise BessemerError(f"{self._file}: cannot be written ({error}); {advice}") from None
