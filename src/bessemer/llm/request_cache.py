"""Answers of a language model on disk: what was paid for once is never asked again."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bessemer.errors import ArtifactError
from bessemer.llm.ledger import Tokens


@dataclass(frozen=True)
class Request:
    """One call. ``max_tokens`` bounds the answer."""

    system: str
    user: str
    max_tokens: int
    temperature: float = 0.0

    def key(self, model: str) -> str:
        """The same for the same model, prompt and parameters."""
        identity = json.dumps({"model": model, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What came back. ``refused`` says why the service will not answer this request, however often it is asked.

    ``is_whole`` is False where the answer ended because ``max_tokens`` were reached.
    """

    text: str
    tokens: Tokens
    is_whole: bool = True
    refused: str = ""


class RequestCache:
    """Replies by key in one SQLite file. Each is on disk when `put` returns, whatever becomes of the process."""

    def __init__(self, file: Path) -> None:
        """Raises ArtifactError where the file is no such cache."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # outlives the process, if not the power
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT NOT NULL, input INTEGER NOT NULL,"
                " output INTEGER NOT NULL, is_whole INTEGER NOT NULL, seconds REAL NOT NULL)"
            )
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ArtifactError(
                f"{file}: cannot be read ({error}); move it away, and its answers are asked anew"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def get(self, key: str) -> Reply | None:
        row = self._connection.execute("SELECT text, input, output, is_whole FROM replies WHERE key = ?", (key,))
        found = row.fetchone()
        return Reply(found[0], Tokens(found[1], found[2]), bool(found[3])) if found else None

    def put(self, key: str, reply: Reply, seconds: float) -> None:
        row = (key, reply.text, reply.tokens.input, reply.tokens.output, reply.is_whole, seconds)
        self._connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?)", row)

    def seconds_per_call(self) -> float | None:
        """The mean over all kept calls; None without any."""
        mean: float | None = self._connection.execute("SELECT avg(seconds) FROM replies").fetchone()[0]
        return mean
