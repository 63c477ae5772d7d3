"""Answers of a language model on disk: what was paid for once is never asked again."""

from __future__ import annotations

from pathlib import Path

from bessemer.llm.ledger import Tokens
from bessemer.llm.request import Reply
from bessemer.sqlite_file import SqliteFile


class RequestCache(SqliteFile):
    """Replies by key; None for a file: in memory. Raises as `SqliteFile` does."""

    def __init__(self, file: Path | None) -> None:
        columns = "key TEXT PRIMARY KEY, text TEXT NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL"
        super().__init__(file, f"replies ({columns}, is_whole INTEGER NOT NULL, seconds REAL NOT NULL)")

    def get(self, key: str) -> Reply | None:
        found = self.rows("SELECT text, input, output, is_whole FROM replies WHERE key = ?", (key,))
        return Reply(found[0][0], Tokens(found[0][1], found[0][2]), bool(found[0][3])) if found else None

    def put(self, key: str, reply: Reply, seconds: float) -> None:
        row = (key, reply.text, reply.tokens.input, reply.tokens.output, reply.is_whole, seconds)
        self.write("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?)", row)

    def seconds_per_call(self) -> float | None:
        """The mean over all kept calls; None without any."""
        mean: float | None = self.rows("SELECT avg(seconds) FROM replies")[0][0]
        return mean
