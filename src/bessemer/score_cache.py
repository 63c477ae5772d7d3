"""Scores of a teacher on disk: a pair that was scored once is never scored again, whatever becomes of the process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bessemer.sqlite_file import SqliteFile


class KeptScore(NamedTuple):
    """``is_cut``: the passage was shortened for it."""

    value: float
    is_cut: bool


def score_key(*identity: str | Sequence[str]) -> str:
    """sha256 over all that shapes a score: the teacher, its template, and the texts."""
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


class ScoreCache(SqliteFile):
    """Scores by key. Raises as `SqliteFile` does."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, "scores (key TEXT PRIMARY KEY, value REAL NOT NULL, is_cut INTEGER NOT NULL)")

    def get(self, key: str) -> KeptScore | None:
        found = self.rows("SELECT value, is_cut FROM scores WHERE key = ?", (key,))
        return KeptScore(found[0][0], bool(found[0][1])) if found else None

    def put(self, key: str, score: KeptScore) -> None:
        self.write("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", (key, *score))
