from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from bessemer.cli import app

QUICK = ("--learning-rate", "0.05", "--max-steps", "4", "--general", "none", "--device", "cpu")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str | Path) -> Result:
        result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "Traceback" not in result.output
        if result.exception is not None:
            assert isinstance(result.exception, SystemExit), repr(result.exception)
        return result  # type: ignore[no-any-return]

    return invoke


def test_help_and_import_load_no_torch() -> None:
    code = "import sys, bessemer, bessemer.cli\ntry: bessemer.cli.main()\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'numpy', 'transformers') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    lines = found.stdout.splitlines()
    assert lines[-1] == "[]"
    commands = {line.split()[0] for line in lines if line.startswith("  ") and len(line.split()) > 1}
    assert {"adapt", "demo", "init", "validate", "prepare", "questions", "negatives", "teacher", "finetune", "evaluate",
            "compare", "report", "index", "search"} <= commands  # fmt: skip


def test_adapt_prints_a_table_for_80_columns(run: Any, english_beir: Path, english_model: Path, tmp_path: Path) -> None:
    command = ("adapt", "--data", english_beir, "--model", english_model, "--out", "out", *QUICK)
    planned = run(*command, "--dry-run", "--json", "-")
    assert {step["state"] for step in json.loads(planned.stdout)["steps"]} == {"to run"}
    assert not (tmp_path / "out").exists()

    done = run(*command, "--json", "result.json")
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) <= 80
    for system in ("bm25", "base", "tuned", "hybrid-base", "hybrid-tuned"):
        assert f"\n{system} " in done.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == report
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model", "index", "report.json", "report.html", "dropped.jsonl",
    }  # fmt: skip

    again = run(*command, "--json", "-")
    assert json.loads(again.stdout)["evaluation"] == report["evaluation"]
    assert run(*command, "--quiet").stdout == ""
    found = run("search", "--index", "out/index", "--top-k", "2", "--json", "-", "parse arguments")
    hits = json.loads(found.stdout)
    assert len(hits) == 2
    assert {"passage_id", "doc_id", "score", "text", "lanes"} <= hits[0].keys()
    assert run("report", "out/report.json", "--out", "page.html").exit_code == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_require_ship(run: Any, english_beir: Path) -> None:
    command = ("evaluate", "--data", english_beir, "--system", "first=bm25", "--system", "second=bm25", "--json", "a")
    assert run(*command).exit_code == 0
    refused = run(*command, "--require", "ship")
    assert refused.exit_code == 6
    assert "verdict: not enough evidence, asked for: ship" in refused.stderr
    assert run("compare", "a", "a", "--require", "ship").exit_code == 6
    assert run(*command, "--require", "gold").exit_code == 2


def test_long_names_leave_room_for_fewer_measures(run: Any, english_beir: Path) -> None:
    name = "a-system-with-a-long-name"
    done = run("evaluate", "--data", english_beir, "--system", "b=bm25", "--system", f"{name}=tfidf")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert f"\n{name}  0." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("adapt",), "give either --source (documents) or --data (judged data)"),
        (("adapt", "--data", "x", "--source", "y"), "and not both"),
        (("adapt", "--data", "BEIR", "--model", "./nowhere"), "./nowhere: no such folder"),
        (("adapt", "--data", "BEIR", "--temperature", "0", "--learning-rate", "-1"), "--learning-rate"),
        (("adapt", "--data", "BEIR", "--out", "FILE"), "--out FILE: is a file; give a folder"),
        (("adapt", "--data", "BEIR", "--workspace", "FILE"), "cannot write to workspace"),
        (("adapt", "--data", "BEIR", "--json", "FILE/x.json"), "--json FILE: is a file; give a folder"),
        (("adapt", "--data", "BEIR", "--bogus"), "--bogus"),
        (("adapt", "--config", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("evaluate", "--data", "BEIR", "--system", "a=foo"), "not NAME=SPEC"),
        (("finetune", "--data", "BEIR", "--resume", "maybe"), "give auto or never"),
        (("teacher", "--data", "BEIR", "--out", "x", "--teacher", "gpt"), "error: --teacher: Input should be 'llm'"),
        (("teacher", "--data", "BEIR", "--out", "x.jsonl"), "teacher needs --data F.jsonl"),
        (("init", "FILE"), "FILE: is a file; give a folder"),
        (("search", "--index", "nowhere", ""), "nowhere"),
    ],
)
def test_usage_errors_are_plain_lines(
    arguments: tuple[str, ...], words: str, run: Any, english_beir: Path, tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_text("", encoding="utf-8")
    result = run(*(str(english_beir) if argument == "BEIR" else argument for argument in arguments))
    assert result.exit_code == (3 if arguments[0] == "search" else 2)
    assert words in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_all_problems_of_bad_data_are_plain_lines(run: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"query": "a\\u001b[31m", "pos": "text"}\n{"query": null, "pos": ["x"]}\n{bad\n{"query": "b", "pos": []}\n',
        encoding="utf-8",
    )
    for verb in ("adapt", "finetune", "validate"):
        result = run(verb, "--data", "rows.jsonl")
        assert result.exit_code == 3
        text = result.stdout if verb == "validate" else result.stderr
        lines = [line.removeprefix("error: ") for line in text.splitlines() if "rows.jsonl:" in line]
        assert [line.split(": ")[0] for line in lines] == [
            "rows.jsonl:1:pos", "rows.jsonl:2:query", "rows.jsonl:3:-", "rows.jsonl:4:pos",
        ]  # fmt: skip
        assert all("; " in line for line in lines)
        assert "\x1b" not in result.output


def test_init_writes_every_key_and_adapt_reads_it(run: Any, tmp_path: Path) -> None:
    assert run("init", "conf").exit_code == 0
    values = yaml.safe_load((tmp_path / "conf" / "bessemer.yaml").read_text(encoding="utf-8"))
    assert (values["finetune"]["temperature"], values["finetune"]["info_nce_weight"]) == (None, 0.2)
    assert "is there already" in run("init", "conf").stderr
    refused = run("adapt", "--config", "conf/bessemer.yaml", "--data", "nowhere")
    assert refused.stderr == "error: nowhere:-:-: no such file or folder; check --data\n"


def test_hostile_texts_do_not_reach_the_terminal(run: Any, english_model: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    evil = "# A \x1b[31mred\x1b[0m heading\n\nSome \x1b]0;title\x07 words that are enough for a passage of text.\n"
    (tmp_path / "docs" / "evil.md").write_text(evil, encoding="utf-8")
    (tmp_path / "docs" / "link.md").symlink_to("/etc/passwd")
    done = run("index", "--source", "docs", "--model", english_model, "--out", "index")
    assert done.exit_code == 0, done.output
    assert "1 dropped" in done.stdout
    found = run("search", "--index", "index", "words \x1b[31m enough")
    assert "heading" in found.stdout
    assert "\x1b" not in found.stdout
    assert "\x07" not in found.stdout
    assert "root:" not in run("search", "--index", "index", "root bin bash").stdout
