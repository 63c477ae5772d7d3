from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import bessemer
from bessemer.config import NegativesConfig
from bessemer.errors import BessemerError, ConfigError
from bessemer.types import Dropped, Filtered, Passage
from bessemer.workspace import Workspace

runs: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    runs.clear()


@dataclass(frozen=True)
class Model:
    folder: Path
    epochs: int


def cut(text: str, config: NegativesConfig | None = None) -> Filtered[Passage]:
    runs["cut"] += 1
    logging.getLogger("bessemer").warning("1 passage too short")
    return Filtered(
        tuple(Passage(f"p{i}", "d", word) for i, word in enumerate(text.split())), (Dropped("x", "s", "r"),)
    )


def count(passages: tuple[Passage, ...]) -> dict[str, int]:
    runs["count"] += 1
    return {passage.text: len(passage.text) for passage in passages}


def train(data: dict[str, int], epochs: int, *, folder: Path) -> Model:
    """Each epoch leaves a checkpoint; the run stops after the second of them, as a kill would stop it."""
    runs["train"] += 1
    checkpoint = folder / "checkpoint"
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for epoch in range(done + 1, epochs + 1):
        checkpoint.write_text(str(epoch))
        if epoch == 2 and done == 0:
            raise RuntimeError("stopped")
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "weights").write_text(json.dumps(data) * 10)
    return Model(folder / "model", epochs)


def fail_with(error: str) -> None:
    if error == "numpy":
        raise OSError("1048576 requested and 65536 written")
    if error == "safetensors":
        raise ValueError("I/O error: No space left on device (os error 28)")
    if error == "wrapped":
        try:
            raise OSError(28, "No space")
        except OSError as cause:
            raise RuntimeError("cannot save") from cause
    raise ValueError(error)


def steps(root: Path) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in (root / "steps").iterdir())


def test_a_finished_step_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="bessemer")
    results = []
    for _ in range(2):
        with Workspace(tmp_path, seed=1) as workspace:
            passages = workspace.step("passages", cut, "a bb a")
            results.append(workspace.step("count", count, passages.kept))
    assert results == [{"a": 1, "bb": 2}] * 2
    assert runs == {"cut": 1, "count": 1}
    done, cached = (line for line in caplog.messages if line.startswith("passages"))
    assert done == "passages: done in 0.0 s (3 kept, 1 dropped)"
    assert cached == "passages: cached (3 kept, 1 dropped)"


def test_every_part_of_the_key_counts(tmp_path: Path) -> None:
    def run(seed: int, name: str, *inputs: Any) -> int:
        with Workspace(tmp_path, seed=seed) as workspace:
            workspace.step(name, cut, *inputs)
        return runs["cut"]

    assert run(1, "passages", "a b") == 1
    assert run(1, "passages", "a b") == 1
    assert run(2, "passages", "a b") == 2
    assert run(1, "other", "a b") == 3
    assert run(1, "passages", "a c") == 4
    assert run(1, "passages", "a b", NegativesConfig()) == 5
    assert run(1, "passages", "a b", NegativesConfig(n_negatives=2)) == 6
    assert run(1, "passages", "a b", NegativesConfig(n_negatives=4)) == 6
    assert run(1, "passages", "a b") == 6  # the superseded results are still there
    assert len(steps(tmp_path)) == 6


def test_an_equal_result_does_not_run_the_rest_again(tmp_path: Path) -> None:
    with Workspace(tmp_path, seed=1) as workspace:
        for text in ("a bb", "a   bb"):
            workspace.step("count", count, workspace.step("passages", cut, text).kept)
    assert runs == {"cut": 2, "count": 1}


def test_an_unfinished_step_keeps_its_folder(tmp_path: Path) -> None:
    with Workspace(tmp_path, seed=1) as workspace:
        with pytest.raises(RuntimeError, match="stopped"):
            workspace.step("model", train, {"a": 1}, 3)
        assert not workspace.is_done("model", train, {"a": 1}, 3)
        model = workspace.step("model", train, {"a": 1}, 3)
        assert workspace.is_done("model", train, {"a": 1}, 3)
        assert workspace.step("model", train, {"a": 1}, 3) == model
    assert runs["train"] == 2
    assert model.folder.is_absolute()
    assert (model.folder.parent / "checkpoint").read_text() == "3"
    manifest = json.loads((model.folder.parent.parent / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["result.json", "work/model/weights"]


def test_a_moved_workspace_is_found_again(tmp_path: Path) -> None:
    with Workspace(tmp_path / "one", seed=1) as workspace:
        workspace.step("model", train, {"a": 1}, 1)
    (tmp_path / "one").rename(tmp_path / "two")
    with Workspace(tmp_path / "two", seed=1) as workspace:
        model = workspace.step("model", train, {"a": 1}, 1)
    assert runs["train"] == 1
    assert (model.folder / "weights").is_relative_to(tmp_path / "two")
    assert (model.folder / "weights").exists()


def test_manifest_tells_what_ran(tmp_path: Path) -> None:
    with Workspace(tmp_path, seed=7) as workspace:
        workspace.step("passages", cut, "a b")
    (manifest,) = (json.loads(path.read_text()) for path in tmp_path.glob("steps/*/manifest.json"))
    assert (manifest["step"], manifest["seed"], manifest["counts"]) == ("passages", 7, {"kept": 2, "dropped": 1})
    assert manifest["function"].endswith("test_workspace.cut")
    assert manifest["log"] == ["WARNING 1 passage too short"]
    assert manifest["versions"]["bessemer"] == "0.1.0"
    assert manifest["created"].endswith("+00:00")
    size = (tmp_path / "steps" / f"passages-{manifest['key'][:16]}" / "result.json").stat().st_size
    assert manifest["files"]["result.json"]["size"] == size


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif how == "changed":
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["truncated", "changed", "deleted"])
@pytest.mark.parametrize("name", ["result.json", "work/model/weights", "manifest.json"])
def test_a_damaged_result_runs_again(name: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Workspace(tmp_path, seed=1) as workspace:
        model = workspace.step("model", train, {"a": 1}, 1)
        weights = (model.folder / "weights").read_bytes()
        damage(model.folder.parent.parent / name, how)
        caplog.clear()
        again = workspace.step("model", train, {"a": 1}, 1)
        assert again == model
        assert (again.folder / "weights").read_bytes() == weights
        assert runs["train"] == 2
        warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
        if (name, how) == ("manifest.json", "deleted"):  # the same as not finished
            assert warned == []
        else:
            assert len(warned) == 1
            assert "is damaged" in warned[0]
            assert name in warned[0] or name == "manifest.json"
        workspace.step("model", train, {"a": 1}, 1)
        assert runs["train"] == 2


@pytest.mark.parametrize("content", ["[]", "null", '{"step": "model"}', '{"files": 3}'])
def test_a_strange_manifest_is_damage(content: str, tmp_path: Path) -> None:
    with Workspace(tmp_path, seed=1) as workspace:
        model = workspace.step("model", train, {"a": 1}, 1)
        (model.folder.parent.parent / "manifest.json").write_text(content)
        assert workspace.step("model", train, {"a": 1}, 1) == model
    assert runs["train"] == 2


def test_step_names_cannot_leave_the_workspace(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", seed=1) as workspace:
        workspace.step("../../évil name/" + "x" * 300, cut, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["ws"]
    assert len(steps(tmp_path / "ws")) == 1


def test_needs_the_lock(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws", seed=1)
    assert not workspace.is_done("passages", cut, "a")
    assert not (tmp_path / "ws").exists()
    with pytest.raises(RuntimeError, match="with Workspace"):
        workspace.step("passages", cut, "a")


def test_second_writer_is_told_who_holds_it(tmp_path: Path) -> None:
    message = rf"pid {os.getpid()}\) is using workspace {tmp_path}; wait or pass --workspace"
    with Workspace(tmp_path, seed=1), pytest.raises(ConfigError, match=message):
        Workspace(tmp_path, seed=1).__enter__()
    with Workspace(tmp_path, seed=1) as workspace:  # and is let in afterwards
        workspace.step("passages", cut, "a")


def test_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boom"), Workspace(tmp_path, seed=1) as workspace:
        workspace.step("fail", fail_with, "boom")
    with Workspace(tmp_path, seed=1):
        pass


@pytest.mark.parametrize("error", ["numpy", "safetensors", "wrapped"])
def test_a_full_disk_in_a_library_is_explained(error: str, tmp_path: Path) -> None:
    with Workspace(tmp_path, seed=1) as workspace, pytest.raises(BessemerError, match=r"no space left .*run the same"):
        workspace.step("fail", fail_with, error)


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot write to workspace .*file .*pass --workspace"):
        Workspace(tmp_path / "file", seed=1).__enter__()


STAGE = """
from bessemer.errors import BessemerError
def stage(n: int) -> int:
    from bessemer.search.helper import factor
    return n * factor
"""
PROBE = """
import sys
from bessemer.corpus.stage import stage
from bessemer.workspace import Workspace
with Workspace(sys.argv[1], seed=1) as workspace:
    done = workspace.is_done("s", stage, 2)
    print(done, workspace.step("s", stage, 2))
"""


def test_a_change_of_the_code_runs_the_step_again(tmp_path: Path) -> None:
    """In a copy of the package: the step's module and what it imports count, lazy imports too; other modules do not."""
    package = tmp_path / "bessemer"
    shutil.copytree(Path(bessemer.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    helper, other = package / "search" / "helper.py", package / "search" / "other.py"
    (package / "corpus" / "stage.py").write_text(STAGE)
    helper.write_text("factor = 3\n")
    other.write_text("x = 1\n")

    def probe() -> str:
        run = subprocess.run(
            [sys.executable, "-c", PROBE, str(tmp_path / "ws")],
            env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return run.stdout.strip()

    assert probe() == "False 6"
    assert probe() == "True 6"
    other.write_text("x = 2\n")
    assert probe() == "True 6"
    helper.write_text("factor = 4\n")
    assert probe() == "False 8"
    with (package / "errors.py").open("a") as file:
        file.write("\n# a comment\n")
    assert probe() == "False 8"
