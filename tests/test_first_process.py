"""What the first process finds reaches the others; threads stand in for processes here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from bessemer.errors import BessemerError, ConfigError
from bessemer.processes import PIECE, Processes
from bessemer.source_hash import source_hash
from bessemer.workspace import Workspace, in_all_processes

T = TypeVar("T")


class MemoryStore:
    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._changed = threading.Condition()

    def set(self, key: str, value: str) -> None:
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def wait(self, keys: list[str], timeout: timedelta) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: all(key in self._values for key in keys), timeout=30), keys

    def get(self, key: str) -> bytes:
        return self._values[key].encode()


def in_threads(n: int, work: Callable[[Processes], T]) -> list[T]:
    store = MemoryStore()
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(work, [Processes(rank, n, store) for rank in range(n)]))


def test_one_process_waits_for_nobody() -> None:
    alone = Processes()
    assert alone.is_first
    assert alone.from_first(lambda: (1, 2)) == (1, 2)
    with alone.first_ahead():
        alone.let_go()


def test_what_the_first_finds_is_the_same_everywhere() -> None:
    asked: list[int] = []

    def work(processes: Processes) -> list[object]:
        def find(value: object) -> object:
            asked.append(processes.rank)
            return value

        return [processes.from_first(lambda v=value: find(v)) for value in (0.1 + 0.2, None, "é" * PIECE, [1, "a"])]

    found = in_threads(3, work)
    assert found[0] == [0.1 + 0.2, None, "é" * PIECE, [1, "a"]]
    assert found[1] == found[2] == found[0]
    assert set(asked) == {0}


def test_the_first_goes_ahead_also_where_parts_lie_within_each_other() -> None:
    order: list[tuple[str, int]] = []

    def work(processes: Processes) -> None:
        with processes.first_ahead():
            order.append(("outer", processes.rank))
            with processes.first_ahead():
                order.append(("inner", processes.rank))
            processes.let_go()
            order.append(("end", processes.rank))

    in_threads(2, work)
    assert order == [(part, rank) for rank in range(2) for part in ("outer", "inner", "end")]


@pytest.fixture
def _read_before() -> None:
    """The source of this module, hashed: Python's parser is not made for threads."""
    source_hash(write)
    source_hash(write_together)


def write(value: str, folder: Path) -> Path:
    (folder / "once.txt").open("x").write(value)  # a second process that runs it fails
    return folder / "once.txt"


@in_all_processes
def write_together(value: str, n: int, folder: Path) -> Path:
    """Done when all have written, as a training is when all have taken its last step."""
    file = folder / "all.txt"
    with file.open("a") as stream:
        stream.write(value)
    while len(file.read_text()) < n:
        time.sleep(0.01)
    return file


@pytest.mark.usefixtures("_read_before")
def test_the_first_runs_a_step_and_the_others_read_it(tmp_path: Path) -> None:
    def work(processes: Processes) -> list[str]:
        with Workspace(tmp_path, seed=1, processes=processes) as workspace:
            found = [workspace.step("alone", write, "a"), workspace.step("together", write_together, "b", 2)]
            again = [workspace.step("alone", write, "a"), workspace.step("together", write_together, "b", 2)]
        assert found == again
        return [path.read_text() for path in found]

    assert in_threads(2, work) == [["a", "bb"]] * 2


@pytest.mark.usefixtures("_read_before")
def test_a_step_of_all_is_keyed_by_their_number_and_others_are_not(tmp_path: Path) -> None:
    def work(processes: Processes) -> tuple[bool, bool]:
        with Workspace(tmp_path, seed=1, processes=processes) as workspace:
            return workspace.is_done("alone", write, "a"), workspace.is_done("together", write_together, "b", 1)

    with Workspace(tmp_path, seed=1) as workspace:
        workspace.step("alone", write, "a")
        workspace.step("together", write_together, "b", 1)
    assert in_threads(2, work) == [(True, False)] * 2


@pytest.mark.usefixtures("_read_before")
def test_other_inputs_in_another_process_are_an_error(tmp_path: Path) -> None:
    def work(processes: Processes) -> None:
        with Workspace(tmp_path, seed=1, processes=processes) as workspace:
            workspace.step("alone", write, f"from {processes.rank}")

    with pytest.raises(BessemerError, match=r"alone: process 1 does not find in .* what the first one wrote"):
        in_threads(2, work)


def test_only_the_first_takes_the_lock(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def work(processes: Processes) -> None:
        with Workspace(tmp_path, seed=1, processes=processes):
            with pytest.raises(ConfigError, match="another bessemer process"), Workspace(tmp_path, seed=1):
                pass
            both.wait(30)

    in_threads(2, work)
