"""What a script is told by the command line where a language model costs too much, or fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bessemer.cli import app
from scripted_llm import Script, chat, fault, serving


def of_keywords(script: Script, data: Path, folder: Path, *options: str) -> Any:
    """What `bessemer keywords` ends with, at a server that does as ``script`` says."""
    with serving(script) as server:
        asked = ("--llm", server.url, "--llm-model", "m", "--workspace", str(folder / "workspace"), *options)
        return CliRunner().invoke(app, ["keywords", "--data", str(data), "--out", str(folder / "out.jsonl"), *asked])


def test_a_budget_that_is_spent(english_beir: Path, tmp_path: Path) -> None:
    done = of_keywords(lambda *_: chat('["pump"]'), english_beir, tmp_path, "--max-tokens", "300")
    assert done.exit_code == 4, done.output
    assert done.stderr.splitlines()[-1].startswith("error: --max-tokens 300: the next call might pass it")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("status", [400, 401, 501])
def test_a_service_that_fails(status: int, english_beir: Path, tmp_path: Path) -> None:
    failing = fault(status, "out of order", x_should_retry="false")
    done = of_keywords(lambda *_: failing, english_beir, tmp_path)
    assert done.exit_code == 5, done.output
    assert f"{status} out of order" in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "out.jsonl").exists()
