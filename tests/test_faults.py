"""Faults that happen: a process killed at any point, two writers, a full disk, a folder that cannot be written to."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bessemer.errors import ConfigError
from bessemer.workspace import Workspace
from fault_steps import state

STEPS = Path(__file__).with_name("fault_steps.py")


def start(*arguments: str | Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env,
    )  # fmt: skip


def run(*arguments: str | Path, **env: str) -> str:
    process = start(*arguments, **env)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    run(STEPS, folder)
    whole = state(folder)
    assert whole["done"] == ["model", "passages", "vectors"]
    assert whole["starts"] == {"passages": 1, "vectors": 1, "model": 1}
    return whole


def test_killed_at_random_times(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    rng = random.Random(0)
    n_kills = 0
    before = state(tmp_path)
    while n_kills < 10 and before["result"] is None:
        process = start(STEPS, tmp_path)
        # The clock starts with the lock file's process id, so that no kill is spent on Python's own start.
        wait_until(lambda: lock_owner(tmp_path) == process.pid or process.poll() is not None)  # noqa: B023
        try:
            process.wait(rng.uniform(0, 0.08))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            n_kills += 1
        process.communicate()
        after = state(tmp_path)
        for step in before["done"]:
            assert after["starts"][step] == before["starts"][step]
        before = after
    assert n_kills >= 3
    run(STEPS, tmp_path)
    after = state(tmp_path)
    assert after["result"] == uninterrupted["result"]
    for step in before["done"]:
        assert after["starts"][step] == before["starts"][step]


def lock_owner(folder: Path) -> int | None:
    try:
        return int((folder / "workspace" / ".lock").read_text() or 0)
    except FileNotFoundError:
        return None


def wait_until(condition: Any) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("waited 30 s in vain")


def test_killed_at_each_write(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    trials = [json.loads(line) for line in run(STEPS, "--die-at-each-write", tmp_path, FAULT_PAUSE="0").splitlines()]
    assert len(trials) >= 20  # fsyncs and renames of three steps
    seen = set()
    for trial in trials:
        left, end = trial["left"], trial["end"]
        assert trial["code"] == 0
        assert left["result"] is None
        assert end["result"] == uninterrupted["result"]
        for step in ("passages", "vectors", "model"):
            started_again = end["starts"][step] - left["starts"].get(step, 0)
            assert started_again == (0 if step in left["done"] else 1), (trial["n"], step)
        seen.add(tuple(left["done"]))
    assert seen == {(), ("passages",), ("passages", "vectors"), ("model", "passages", "vectors")}


def test_two_writers(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    first = start(STEPS, tmp_path, FAULT_PAUSE="0.15")
    wait_until(lambda: lock_owner(tmp_path) == first.pid)
    second = start(STEPS, tmp_path)
    assert f"another bessemer process (pid {first.pid}) is using workspace" in second.communicate(timeout=60)[1]
    assert second.returncode == 1
    assert first.wait(timeout=60) == 0
    assert state(tmp_path) == uninterrupted


FILL = """
    import os, resource, signal, sys
    from pathlib import Path
    import numpy as np
    from bessemer.errors import BessemerError
    from bessemer.types import Passage
    from bessemer.workspace import Workspace

    def small() -> str:
        print("small ran")
        return "x" * 20_000

    def rows() -> tuple[Passage, ...]:
        return tuple(Passage(str(i), "d", "long text " * 50) for i in range(5_000))

    def array() -> np.ndarray:
        return np.ones((1000, 500))

    def own(folder: Path) -> Path:
        np.save(folder / "own.npy", np.ones((1000, 500)), allow_pickle=False)
        return folder / "own.npy"

    if "FILE_LIMIT" in os.environ:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    with Workspace(sys.argv[1], seed=1) as workspace:
        workspace.step("small", small)
        for function in (rows, array, own):
            if len(sys.argv) > 2:
                workspace.step("big", function)
                continue
            try:
                workspace.step("big", function)
                sys.exit(f"{function} should not fit")
            except BessemerError as error:
                print(error)
            assert not workspace.is_done("big", function)
            [file.unlink() for file in workspace.root.glob("steps/big-*/*") if file.is_file()]
            [file.unlink() for file in workspace.root.glob("steps/big-*/work/*")]
"""


def check_full(out: str, root: Path) -> None:
    ran, *errors = out.splitlines()
    assert ran == "small ran"
    assert len(errors) == 3
    for error in errors:
        assert error.startswith(f"no space left on the disk of {root} (")
        assert error.endswith("; free space and run the same command again: finished steps are kept")


def test_files_may_not_grow(tmp_path: Path) -> None:
    """The portable stand-in for a full disk: a limit on the size of files, which fails inside a write just the same."""
    script = tmp_path / "fill.py"
    script.write_text(textwrap.dedent(FILL))
    root = tmp_path / "workspace"
    check_full(run(script, root, FILE_LIMIT="1"), root)
    assert run(script, root, "space again") == ""  # the finished step does not run again


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip("may not mount a small disk here; test_files_may_not_grow stands in")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk(small_disk: Path, tmp_path: Path) -> None:
    script = tmp_path / "fill.py"
    script.write_text(textwrap.dedent(FILL))
    root = small_disk / "workspace"
    check_full(run(script, root), root)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert run(script, root, "space again") == ""


def test_disk_full_from_the_start(small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(b"x" * 2**21)
    script = tmp_path / "fill.py"
    script.write_text(textwrap.dedent(FILL))
    process = start(script, small_disk / "workspace")
    assert "no space left on the disk of" in process.communicate(timeout=60)[1].splitlines()[-1]


def test_a_worker_that_outlives_the_process_does_not_hold_the_lock(tmp_path: Path) -> None:
    script = """if True:
        import os, signal, sys, time
        from bessemer.workspace import Workspace
        with Workspace(sys.argv[1], seed=1):
            worker = os.fork()
            if worker == 0:
                print(os.getpid(), flush=True)  # told by the worker: what fork does in it has been done by then
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
    """
    process = start("-c", script, tmp_path)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    try:
        with pytest.raises(ConfigError, match=f"pid {process.pid}"):
            Workspace(tmp_path, seed=1).__enter__()
        process.kill()
        process.wait()
        with Workspace(tmp_path, seed=1):
            os.kill(worker, 0)  # it is still there
    finally:
        os.kill(worker, signal.SIGKILL)
        process.communicate()


def test_unwritable_folder(tmp_path: Path) -> None:
    """As a user without rights: root may write everywhere, so its process gives its rights away inside the folder."""
    script = """if True:
        import os, sys
        from bessemer.workspace import Workspace
        os.chdir(sys.argv[1])
        if os.geteuid() == 0:
            os.setgid(65534), os.setuid(65534)
        Workspace("workspace", seed=1).__enter__()
    """
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    message = start("-c", script, locked).communicate(timeout=60)[1].splitlines()[-1]
    root = locked / "workspace"
    assert f"cannot write to workspace {root} (Permission denied); make it writable or pass --workspace" in message
