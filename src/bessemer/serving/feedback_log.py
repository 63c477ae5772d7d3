"""The file of what people found helpful: JSON lines, the ones that ``--queries`` and ``ask --feedback`` read."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bessemer.errors import ConfigError


class FeedbackLog:
    """Appends whole lines, on disk when ``append`` returns; several processes may share the file."""

    def __init__(self, file: str | Path) -> None:
        """Made where it is missing, readable by its owner alone. Raises ConfigError where it cannot be written."""
        self._file = Path(file).expanduser()
        self._lock = threading.Lock()
        try:
            os.close(self._open())
        except OSError as error:
            raise ConfigError(f"--feedback {file}: cannot be written ({error.strerror}); choose another file") from None

    def append(self, judgement: Mapping[str, Any]) -> None:
        """One JSON line, or an OSError and the file as it was."""
        line = json.dumps(judgement, ensure_ascii=False).encode("utf-8") + b"\n"
        with self._lock:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _append(descriptor, line)
            finally:
                os.close(descriptor)

    def _open(self) -> int:
        return os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _append(descriptor: int, line: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":  # by hand, or by a machine that lost its power
        line = b"\n" + line
    try:
        written = os.write(descriptor, line)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
