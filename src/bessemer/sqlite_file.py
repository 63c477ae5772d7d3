"""One SQLite file as a cache: what is put outlives the process, and faults come with their fix."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bessemer.errors import ArtifactError, BessemerError, ConfigError

WAIT_SECONDS = 60.0
"""For another process that writes at the same moment."""


class SqliteFile:
    """``table`` is the one table's name with its columns. Several processes may share the file."""

    def __init__(self, file: Path | None, table: str) -> None:
        """None: in memory, for a dry run. Raises ConfigError where the file cannot be written, or another process holds
        it for too long; ArtifactError where it is no such cache."""
        self._file = file
        try:
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(  # from one thread at a time, be it another one
                file or ":memory:", isolation_level=None, timeout=WAIT_SECONDS, check_same_thread=False
            )
        except (OSError, sqlite3.OperationalError) as error:
            reason = f"{file}: the cache cannot be made ({error})"
            raise ConfigError(f"{reason}; pass --workspace with another folder") from None
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # outlives the process, if not the power
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")
            tables = self._connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchall()
            if tables != [(f"CREATE TABLE {table}",)]:
                raise sqlite3.DatabaseError("it holds other tables")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise self._fault(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Raises as the constructor does."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from None

    def write(self, statement: str, values: tuple[Any, ...]) -> None:
        """Raises BessemerError where it cannot be written, as on a full disk."""
        try:
            self._connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            advice = "free space and run the same command again: what was there is kept"
            raise BessemerError(f"{self._file}: cannot be written ({error}); {advice}") from None
        except sqlite3.DatabaseError as error:
            raise self._fault(error) from None

    def _fault(self, error: sqlite3.DatabaseError) -> BessemerError:
        if isinstance(error, sqlite3.OperationalError):
            why = "another process holds it, or its disk cannot be written"
            return ConfigError(f"{self._file}: cannot be used ({error}): {why}; pass --workspace with another folder")
        return ArtifactError(f"{self._file}: cannot be read ({error}); move it away, and it is made anew")
