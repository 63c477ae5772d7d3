"""Files that are there as a whole or not at all, also after the power went."""

from __future__ import annotations

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Wait until the file's bytes (or the folder's names) are on the disk."""
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
