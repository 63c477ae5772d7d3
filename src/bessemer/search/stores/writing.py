"""What an index says where its files cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bessemer.errors import ConfigError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A full or read-only disk as a ConfigError with the fix."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{folder}: the index cannot be written ({error.strerror or error}); free space or choose another "
            "folder. What was there before is unchanged"
        ) from error
