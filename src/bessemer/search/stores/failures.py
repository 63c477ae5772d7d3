"""Failures of an engine, told in words that say where and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from bessemer.errors import BessemerError, ConfigError, EngineError

_PANIC = "PanicException"  # of Rust code: no Exception, and it must not end a service


def package(name: str, extra: str) -> Any:
    """The module ``name``. Raises ConfigError that names the extra where it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        fix = f"pip install 'bessemer[{extra}]'"
        raise ConfigError(f"this index needs the package {name.replace('_', '-')}; {fix}") from None


@contextmanager
def asking(engine: str, location: str) -> Iterator[None]:
    """What ``engine`` raises as an EngineError; errors of ours and wrong arguments stay what they are."""
    try:
        yield
    except (BessemerError, KeyError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        raise EngineError(
            f"{location}: {engine} failed ({error}); see whether it runs and has space, try again"
        ) from error
