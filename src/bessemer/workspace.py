"""The workspace: finished steps on disk, found again by the hash of all that went into them.

    root/.lock                          one writer at a time (flock: a killed process leaves nothing behind)
    root/steps/<name>-<key>/work/       files of the step's own: checkpoints, caches, models
    root/steps/<name>-<key>/result.json, *.jsonl, *.npy
    root/steps/<name>-<key>/manifest.json    written last: a step without it is not done

Directories of superseded keys stay: going back to old settings finds the old results. Delete the root to free space.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import inspect
import io
import json
import logging
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from bessemer.artifacts import WORK, load_result, result_classes, save_result
from bessemer.content_hash import ContentHasher, file_hash
from bessemer.durable import flush, replace_file
from bessemer.errors import BessemerError, ConfigError
from bessemer.processes import Processes
from bessemer.source_hash import versions

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

MANIFEST = "manifest.json"
LOG_LINES = 200  # of a step's log, the last so many are kept in its manifest

logger = logging.getLogger("bessemer")


class WouldRun(Exception):
    """In a dry run: the first step that is not done."""


def in_all_processes(function: F) -> F:
    """Marks a function that several processes run together as a step; any other step is run by the first alone."""
    vars(function)["in_all_processes"] = True
    return function


class Workspace:
    """A memo on disk. Within ``with Workspace(root, seed=42) as workspace:`` no other process may write to ``root``."""

    def __init__(
        self, root: Path | str, *, seed: int, dry_run: bool = False, processes: Processes | None = None
    ) -> None:
        """``dry_run``: nothing is written, and the first step that is not done raises WouldRun.

        ``processes``: those that run the same steps together. The first one writes, the others read from the same disk.
        """
        self._processes = processes or Processes()
        self.dry_run = dry_run
        self.root = Path(root).expanduser().resolve()
        self.seed = seed
        self._hasher = ContentHasher()
        self._lock: io.FileIO | None = None

    def __enter__(self) -> Self:
        """Raises ConfigError when ``root`` cannot be written to, or another process uses it."""
        with self._processes.first_ahead():
            if self._processes.is_first and not self.dry_run:
                self._take_lock()
        return self

    def _take_lock(self) -> None:
        try:
            with _full_disk_explained(self.root):
                (self.root / "steps").mkdir(parents=True, exist_ok=True)
                lock = io.FileIO(self.root / ".lock", "a+")
        except OSError as error:
            reason = f"cannot write to workspace {self.root} ({error.strerror})"
            raise ConfigError(f"{reason}; make it writable or pass --workspace with another folder") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with _full_disk_explained(self.root):
                lock.truncate(0)
                lock.write(str(os.getpid()).encode())
        except BlockingIOError:
            lock.seek(0)
            owner = f"another bessemer process (pid {lock.read().decode() or 'unknown'}) is using workspace {self.root}"
            lock.close()
            raise ConfigError(f"{owner}; wait or pass --workspace with another folder") from None
        except OSError as error:
            lock.close()
            reason = f"workspace {self.root} cannot be locked ({error.strerror})"
            raise ConfigError(f"{reason}; pass --workspace with a folder on a local disk") from None
        except BessemerError:
            lock.close()
            raise
        # A forked worker that outlives us must not hold the lock for us. Closing its copy does not unlock ours.
        os.register_at_fork(after_in_child=lock.close)
        self._lock = lock

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def step(self, name: str, function: Callable[..., R], *inputs: Any) -> R:
        """``function(*inputs)``, from disk where it was done before with the same code, inputs and seed.

        What comes back is always what is on disk, so the first run and a resumed one see the same value. Treat it as
        read-only: its hash is remembered. A parameter named ``folder`` receives the step's own folder, which outlives
        a kill; a Path of the result inside it makes the files there part of the artifact.

        Raises TypeError for inputs without a content hash and results without a file format, BessemerError on a full
        disk, and whatever ``function`` raises; then the step counts as not done.
        """
        if self._lock is None and self._processes.is_first and not self.dry_run:
            raise RuntimeError("a workspace is used as `with Workspace(root, seed=...) as workspace:`")
        identity = self._identity(name, function, inputs)
        in_all = "processes" in identity
        helps = in_all and not self._processes.from_first(lambda: self.is_done(name, function, *inputs))
        if self._processes.is_first:
            result = self._done(identity, function, inputs)
            self._processes.let_go()
            return result
        if helps:
            folder = self._folder(identity)
            (folder / WORK).mkdir(parents=True, exist_ok=True)
            function(*inputs, **_folder_argument(function, folder))
        self._processes.let_go()
        return self._done(identity, function, inputs)

    def _done(self, identity: Mapping[str, Any], function: Callable[..., R], inputs: tuple[Any, ...]) -> R:
        name, folder = identity["step"], self._folder(identity)
        manifest = self._read_manifest(folder, identity)
        if manifest is None and self.dry_run:
            raise WouldRun(name)
        if manifest is None and not self._processes.is_first:
            raise BessemerError(
                f"{name}: process {self._processes.rank} does not find in {folder} what the first one wrote: "
                "its inputs are others, or --workspace is not on a disk that all machines share"
            )
        with _full_disk_explained(self.root):
            if manifest is None:
                return self._run(identity, folder, function, inputs)
        logger.info("%s: cached%s", name, _in_words(manifest["counts"]))
        result = cast(R, load_result(folder, result_classes(function)))
        self._hasher.note(result, manifest["result"])
        return result

    def is_done(self, name: str, function: Callable[..., Any], *inputs: Any) -> bool:
        """Whether `step` would find this result on disk. Writes nothing and needs no lock."""
        identity = self._identity(name, function, inputs)
        return self._read_manifest(self._folder(identity), identity) is not None

    def unfinished(self, name: str, function: Callable[..., Any], *inputs: Any) -> Path:
        """The folder that `step` gives ``function``. Writes nothing and needs no lock."""
        return self._folder(self._identity(name, function, inputs)) / WORK

    def forget(self, name: str, function: Callable[..., Any], *inputs: Any) -> None:
        """Delete what `step` would find, unfinished work included."""
        folder = self._folder(self._identity(name, function, inputs))
        if folder.exists():
            (folder / MANIFEST).unlink(missing_ok=True)  # first: a kill must not leave a manifest without its files
            shutil.rmtree(folder)

    def _identity(self, name: str, function: Callable[..., Any], inputs: tuple[Any, ...]) -> dict[str, Any]:
        """All that decides the result, and ``key``, the hash of it."""
        identity: dict[str, Any] = {
            "step": name,
            "seed": self.seed,
            "code": self._hasher.digest(function),
            "inputs": [self._hasher.digest(value) for value in inputs],
        }
        if self._processes.n > 1 and getattr(function, "in_all_processes", False):
            identity["processes"] = self._processes.n
        return identity | {"key": hashlib.sha256(json.dumps(identity).encode()).hexdigest()}

    def _folder(self, identity: Mapping[str, Any]) -> Path:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", identity["step"])[:60]
        return self.root / "steps" / f"{stem}-{identity['key'][:16]}"

    def _read_manifest(self, folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """None when the step is not done, or (with a warning) when a file of it is not as it was written."""
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            whole = all(manifest[name] == value for name, value in identity.items())
            fault = _first_fault(folder, manifest["files"]) if whole else "another step's manifest"
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            manifest, fault = None, f"{MANIFEST}: {error}"
        if fault is None:
            return cast(dict[str, Any], manifest)
        logger.warning("%s: the result in %s is damaged (%s); the step runs again", identity["step"], folder, fault)
        return None

    def _run(self, identity: Mapping[str, Any], folder: Path, function: Callable[..., R], inputs: tuple[Any, ...]) -> R:
        classes = result_classes(function)
        _clear(folder)
        started = time.monotonic()
        with _captured_log() as lines:
            returned = function(*inputs, **_folder_argument(function, folder))
        seconds = time.monotonic() - started
        files = save_result(returned, folder, classes)
        del returned
        result = cast(R, load_result(folder, classes))
        manifest = {
            **identity,
            "function": f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}",
            "result": self._hasher.digest(result),
            "counts": _counts(identity["step"], result),
            "seconds": round(seconds, 3),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "files": {name: {"size": _size(folder / name), "sha256": file_hash(folder / name)} for name in files},
            "log": list(lines),
        }
        _write_manifest(folder, manifest)
        logger.info("%s: done in %.1f s%s", identity["step"], seconds, _in_words(cast(Any, manifest["counts"])))
        self._hasher.note(result, cast(str, manifest["result"]))
        return result


def _folder_argument(function: Callable[..., Any], folder: Path) -> dict[str, Path]:
    return {"folder": folder / WORK} if "folder" in inspect.signature(function).parameters else {}


def _first_fault(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> str | None:
    for name, recorded in files.items():
        try:
            if _size(folder / name) != recorded["size"]:
                return f"{name}: {_size(folder / name)} bytes, {recorded['size']} were written"
            if file_hash(folder / name) != recorded["sha256"]:
                return f"{name}: other bytes than were written"
        except FileNotFoundError:
            return f"{name}: missing"
    return None


def _clear(folder: Path) -> None:
    """Take away an unfinished or damaged result; the step's own folder stays, less the files recorded as damaged."""
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        for name, recorded in json.loads((folder / MANIFEST).read_bytes())["files"].items():
            if _first_fault(folder, {name: recorded}):
                (folder / name).unlink(missing_ok=True)
    # The manifest goes first: a kill in between must not leave one that names files of another run.
    for file in sorted(folder.iterdir(), key=lambda path: path.name != MANIFEST):
        if file.name != WORK:
            file.unlink()


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """All names of the artifact are on disk before the manifest, and the manifest is whole before it has its name."""
    for parent, _, _ in os.walk(folder):
        flush(Path(parent))
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    replace_file(folder / MANIFEST, text.encode("utf-8", "surrogatepass"))
    flush(folder.parent)


@contextlib.contextmanager
def _captured_log() -> Iterator[deque[str]]:
    """What the package logs in the meantime, so that a cached step's warnings are still to be found."""
    lines: deque[str] = deque(maxlen=LOG_LINES)
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()}")  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def _full_disk_explained(root: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, BessemerError) or not _means_full_disk(error):
            raise
        advice = "free space and run the same command again: finished steps are kept"
        raise BessemerError(f"no space left on the disk of {root} ({error}); {advice}") from error


def _means_full_disk(error: BaseException | None) -> bool:
    """Libraries wrap the system's error, or name it in words only (safetensors, torch, numpy's tofile)."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if re.search(r"No space left on device|failed writing file|\d+ requested and \d+ written", str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _size(path: Path) -> int:
    return path.lstat().st_size


def _counts(name: str, result: Any) -> dict[str, int]:
    """Lengths of what the result holds, by field; of a bare sequence, by the step's name."""
    if isinstance(result, list | tuple):
        return {name: len(result)}
    if isinstance(result, Mapping):
        items = result.items()
    elif dataclasses.is_dataclass(result):
        items = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}.items()
    else:
        return {}
    return {str(key): len(value) for key, value in items if isinstance(value, list | tuple | Mapping)}


def _in_words(counts: Mapping[str, int]) -> str:
    words = ", ".join(f"{count:,} {name}" for name, count in list(counts.items())[:4])
    return f" ({words})" if words else ""
