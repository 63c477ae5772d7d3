"""Files that are there as a whole or not at all, also after the power went."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bessemer.errors import ConfigError


def flush(path: Path) -> None:
    """A file or folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """The old content or the new one, never a part; on disk upon return."""
    waiting = path.with_name(f"{path.name}.new")
    try:
        waiting.write_bytes(content)
        flush(waiting)
        waiting.replace(path)
    except OSError:
        waiting.unlink(missing_ok=True)
        raise
    flush(path.parent)


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
