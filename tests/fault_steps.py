"""Three steps in a process of their own, for test_faults.py: python fault_steps.py FOLDER

FOLDER/workspace is the workspace, FOLDER/starts gets a line at each start of a step's function, FOLDER/result.json is
written at the end. With `--die-at-each-write FOLDER`, child processes do this in FOLDER/1, FOLDER/2, ...: in the N-th,
one is killed in place of its N-th fsync or rename, and another one follows; what both left is printed as JSON lines.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.types import Filtered, Passage
from bessemer.workspace import Workspace

PAUSE = float(os.environ.get("FAULT_PAUSE", "0.03"))  # so that a kill finds every step at work


def started(name: str) -> None:
    with Path(os.environ["FAULT_STARTS"]).open("a") as file:
        file.write(f"{name}\n")


def cut(n: int) -> Filtered[Passage]:
    started("passages")
    time.sleep(PAUSE)
    return Filtered(tuple(Passage(f"p{i}", "d", f"text {i}", end=6) for i in range(n)))


def encode(passages: tuple[Passage, ...], folder: Path) -> dict[str, Any]:
    """In shards that outlive a kill."""
    started("vectors")
    shards = []
    for start in range(0, len(passages), 100):
        shard = folder / f"{start}.npy"
        if not shard.exists():
            time.sleep(PAUSE)
            unfinished = folder / "unfinished.npy"
            np.save(
                unfinished, np.array([[len(p.text), start] for p in passages[start : start + 100]]), allow_pickle=False
            )
            unfinished.rename(shard)
        shards.append(np.load(shard, allow_pickle=False))
    return {"vectors": np.concatenate(shards)}


def train(vectors: dict[str, Any], folder: Path) -> Path:
    started("model")
    for epoch in range(3):
        time.sleep(PAUSE)
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / "weights").write_text(f"{vectors['vectors'].sum()} after {epoch} " * 1000)
    return folder / "model"


def main(folder: Path) -> None:
    os.environ["FAULT_STARTS"] = str(folder / "starts")
    with Workspace(folder / "workspace", seed=1) as workspace:
        passages = workspace.step("passages", cut, 300)
        vectors = workspace.step("vectors", encode, passages.kept)
        model = workspace.step("model", train, vectors)
        content = {"vectors": vectors["vectors"].tolist(), "weights": (model / "weights").read_text()}
        (folder / "result.json").write_text(json.dumps(content))


def die_at(n: int) -> None:
    calls = 0

    def deadly(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return call

    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)


def in_child(folder: Path, n: int | None) -> int:
    """Exit code, or the negative number of the signal."""
    child = os.fork()
    if child == 0:
        if n is not None:
            die_at(n)
        main(folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at_each_write(folder: Path) -> None:
    for n in range(1, 1000):
        (folder / str(n)).mkdir()
        if in_child(folder / str(n), n) != -signal.SIGKILL:
            break  # it came to its end before the n-th write
        left = state(folder / str(n))
        code = in_child(folder / str(n), None)
        print(json.dumps({"n": n, "left": left, "code": code, "end": state(folder / str(n))}))


def state(folder: Path) -> dict[str, Any]:
    """Steps that are done, how often each was started, and the result."""
    done = [path.parent.name.split("-")[0] for path in folder.glob("workspace/steps/*/manifest.json")]
    starts = (folder / "starts").read_text().split() if (folder / "starts").exists() else []
    result = (folder / "result.json").read_text() if (folder / "result.json").exists() else None
    return {"done": sorted(done), "starts": Counter(starts), "result": result}


if __name__ == "__main__":
    if sys.argv[1] == "--die-at-each-write":
        die_at_each_write(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]))
