"""What a recipe leaves behind: files that are whole or not there, a report with everything that went into it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.errors import ConfigError
from bessemer.formats.lines import atomic_writer

PACKAGES = ("bessemer", "torch", "transformers", "sentence-transformers", "numpy", "scipy", "ir-measures")
BEIR_FILES = ("corpus.jsonl", "queries.jsonl", "qrels")


def claim_folder(folder: str | Path, flag: str = "--out") -> Path:
    """Create the output folder and prove that it can be written to, before hours are spent. Raises ConfigError."""
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{flag} {folder}: is a file; give a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError(f"{flag} {folder}: cannot be written to ({error.strerror}); choose another folder") from None
    return path


def require_own(folder: str | Path, mark: str, verb: str, replaced: Sequence[str] = ()) -> None:
    """Raises ConfigError where ``folder`` holds what ``verb`` would replace, the names ``replaced`` or all that there
    is, and not ``mark``, which it leaves there."""
    path = Path(folder)
    if path.is_file():
        raise ConfigError(f"--out {folder}: is a file; give a folder")
    if not path.is_dir() or (path / mark).exists():
        return
    if any(file.name in replaced or not replaced for file in path.iterdir()):
        raise ConfigError(f"--out {folder}: holds files that are not of an earlier {verb}; choose a new folder")


def claim_file(file: str | Path, flag: str) -> None:
    """Prove that ``file`` can be written, before hours are spent. Raises ConfigError."""
    if Path(file).is_dir():
        raise ConfigError(f"{flag} {file}: is a folder; give a file")
    claim_folder(Path(file).parent, flag)


def write_json(value: Any, path: Path) -> None:
    """Atomically, as strict JSON: NaN becomes null. Raises ConfigError where that cannot be done."""
    with atomic_writer(path) as stream:
        stream.write(to_json(value))


def to_json(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """Dataclasses, tuples, numpy scalars and paths as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def publish_folder(source: Path, target: Path, files: Mapping[str, Any] | None = None) -> None:
    """Copy ``source`` to ``target`` and put ``files`` (name -> JSON) beside it; it is whole before it has its name.

    A folder that was there is replaced. Raises ConfigError, and leaves it as it was, where that cannot be done.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            shutil.copytree(source, new)
            for name, value in (files or {}).items():
                write_json(value, new / name)
            if target.exists():
                os.replace(target, old)
            try:
                os.replace(new, target)
            except OSError:
                if old.exists():
                    os.replace(old, target)
                raise
    except OSError as error:  # shutil.Error lists (source, target, "[Errno 28] No space left ...: paths") per file
        told = error.args[0][0][2] if isinstance(error, shutil.Error) else str(error.strerror)
        reason = re.sub(r"^\[Errno \d+\] |: '.*", "", told)
        raise ConfigError(f"{target}: cannot be written ({reason}); free space or choose another folder") from None


def installed_versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
