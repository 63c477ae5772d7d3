"""Errors that a user can act on. Each class carries the exit code that the command line returns for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in the input: where it is, what is wrong, how to mend it."""

    file: str
    line: int | None
    field: str
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line if self.line is not None else '-'}:{self.field or '-'}"
        return f"{where}: {self.message}; {self.fix}"


class BessemerError(Exception):
    """Base of all errors that the command line prints without a traceback."""

    exit_code = 1


class ConfigError(BessemerError):
    """A wrong flag, config key, model name or output folder."""

    exit_code = 2


class DataError(BessemerError):
    """Bad input data. Raised once, with every problem found."""

    exit_code = 3

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ArtifactError(BessemerError):
    """A file of ours is damaged, or belongs to another model."""

    exit_code = 3


class BudgetError(BessemerError):
    """A cost or token budget is used up; everything paid for is kept."""

    exit_code = 4


class ServiceError(BessemerError):
    """An external service failed."""

    exit_code = 5


class EngineError(ServiceError):
    """The engine that holds an index failed."""


class RefusedError(BessemerError):
    """What was measured is below what was asked for."""

    exit_code = 6
