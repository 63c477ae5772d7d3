"""The exact engine: plain files, searched exactly. One index is one folder; every generation is a folder in it.

A generation is a list of *segments* (`bessemer.search.stores.segment`). An upsert writes one more segment and then
replaces the list, in which the rows that it supersedes are marked dead; a delete only marks. So at every moment the
list on disk names whole files alone, and what a killed write left behind is named by nobody: the next writer removes
it. Segments of one size class are merged when there are `MERGED` of them, so that each passage is written again only
O(log n) times; half-dead ones are written anew.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bessemer.durable import flush, replace_file
from bessemer.errors import ArtifactError, ConfigError
from bessemer.search.stores.files_store import FilesStore
from bessemer.search.stores.generation_names import checked_name
from bessemer.search.stores.segment_list import LIST, SegmentList, named_files, write_list
from bessemer.search.stores.store import Layout
from bessemer.search.stores.writing import writing

LOCK = ".lock"
GENERATION = "generation-"


class FilesEngine:
    name = "files"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.location = str(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Also removes what a killed writer left. Raises ConfigError for a folder that holds something else, as old
        generations are deleted in it, and where it cannot be written."""
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: is a file; choose a folder for the index")
        if folder.is_dir() and not (folder / LOCK).exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder}: holds files that are no index; choose an empty folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock_file = (folder / LOCK).open("a+")
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
        with lock_file as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise ConfigError(
                    f"{folder}: another process (pid {lock.read() or 'unknown'}) is building this index; wait for it"
                ) from None
            with writing(folder):
                lock.truncate(0)
                lock.write(str(os.getpid()))
                lock.flush()
                self._remove_leftovers()
            yield

    def create(self, generation: str, layout: Layout) -> FilesStore:
        folder = self._folder(generation)
        with writing(self.folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_list(folder, SegmentList(layout))
            flush(self.folder)
        return FilesStore(folder)

    def open(self, generation: str) -> FilesStore:
        folder = self._folder(generation)
        if not folder.is_dir():
            raise ArtifactError(f"{self.folder}: no finished index ({generation} is not there); build it again")
        return FilesStore(folder)

    def drop(self, generation: str) -> None:
        """The list goes first: what is left of a drop that was killed is no generation."""
        folder = self._folder(generation)
        with writing(self.folder):
            (folder / LIST).unlink(missing_ok=True)
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)

    def generations(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        folders = (path for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink())
        return sorted(f.name for f in folders if f.name.startswith(GENERATION) or (f / LIST).exists())

    def switch(self, generation: str) -> None:
        """Nobody searches plain files without us."""

    def read_fact(self, name: str) -> bytes | None:
        try:
            return self._fact(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArtifactError(f"{self._fact(name)}: cannot be read ({error.strerror})") from None

    def write_fact(self, name: str, content: bytes) -> None:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if content:
                replace_file(self._fact(name), content)
            else:
                self._fact(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is held open."""

    def _folder(self, generation: str) -> Path:
        return self.folder / checked_name(generation, self.location)

    def _fact(self, name: str) -> Path:
        return self.folder / f"{checked_name(name, self.location)}.json"

    def _remove_leftovers(self) -> None:
        for generation in self.generations():
            folder = self.folder / generation
            named = {folder / path for path in named_files(folder)}
            for part in folder.iterdir() if named else ():
                if part.is_dir():
                    for file in part.iterdir():
                        if file not in named:
                            file.unlink()
                    if not any(part.iterdir()):
                        part.rmdir()
                elif part.name != LIST:
                    part.unlink()
