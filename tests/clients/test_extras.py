from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "framework"), [("langchain", "langchain_core"), ("llamaindex", "llama_index.core"), ("mteb", "mteb")]
)
def test_a_missing_framework_names_its_extra(module: str, framework: str) -> None:
    code = f"import sys; sys.modules[{framework!r}] = None; import bessemer.clients.{module}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: bessemer.clients.{module} needs ")
    assert last.endswith(f'pip install "bessemer[{module}]"')


def test_the_package_itself_needs_none() -> None:
    code = "import sys, bessemer.clients; print({'langchain_core', 'llama_index', 'mteb', 'torch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
