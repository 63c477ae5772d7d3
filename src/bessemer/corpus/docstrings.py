"""Real text that every machine has after installation: the docstrings of the scientific Python packages.

A document is a module or a class, a passage the body of one docstring without its summary line, a query that summary
line. Source files are parsed, never imported. The counts depend on the installed versions; the report names them.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bessemer.text import folded
from bessemer.types import Dropped, Filtered, Passage, Query

PACKAGES = ("numpy", "scipy", "sklearn", "torch")
PRIVATE_PARTS = ("tests", "test", "testing", "_vendor", "externals", "_internal", "_inductor", "_dynamo", "conftest")
MIN_SUMMARY_WORDS, MAX_SUMMARY_WORDS = 5, 40
MIN_BODY_WORDS, MAX_BODY_WORDS = 12, 80


@dataclass(frozen=True)
class DocstringPair:
    module: str
    query: Query
    passage: Passage


def docstring_pairs(packages: Sequence[str] = PACKAGES) -> Filtered[DocstringPair]:
    """(summary line, rest of the docstring) of public functions, methods and classes, in a stable order.

    A summary or a body that stands in several docstrings does not say which is meant: dropped, as all is with a count.
    """
    found: dict[str, tuple[str, str, str, str]] = {}
    dropped = []
    for package in packages:
        for module, owner, name, docstring in _docstrings(package):
            item = f"{owner}.{name}" if name else owner
            summary, body = _summary_and_body(docstring)
            reason = _unfit(summary, body) or ("defined twice" if item in found else "")
            if reason:
                dropped.append(Dropped(item, "docstrings", reason, summary))
            else:
                found[item] = (module, owner, summary, body)
    summaries = Counter(folded(summary) for _, _, summary, _ in found.values())
    bodies = Counter(folded(body) for _, _, _, body in found.values())
    kept = []
    for item, (module, owner, summary, body) in found.items():
        if summaries[folded(summary)] > 1:
            dropped.append(Dropped(item, "docstrings", "summary not unique", summary))
        elif bodies[folded(body)] > 1:
            dropped.append(Dropped(item, "docstrings", "body not unique", summary))
        else:
            # No title: the name of the thing often repeats its summary.
            kept.append(DocstringPair(module, Query(item, summary), Passage(item, owner, body, end=len(body))))
    return Filtered(tuple(kept), tuple(dropped))


def _unfit(summary: str, body: str) -> str:
    if not MIN_SUMMARY_WORDS <= len(summary.split()) <= MAX_SUMMARY_WORDS:
        return f"summary outside {MIN_SUMMARY_WORDS} to {MAX_SUMMARY_WORDS} words"
    if not MIN_BODY_WORDS <= len(body.split()) <= MAX_BODY_WORDS:
        return f"body outside {MIN_BODY_WORDS} to {MAX_BODY_WORDS} words"
    if folded(summary).rstrip(".") in folded(body):
        return "summary stands in its body"
    return ""


def _docstrings(package: str) -> Iterator[tuple[str, str, str, str]]:
    """(module, module or class, name within it, docstring) of everything public in a package's source files."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        if any(part in PRIVATE_PARTS or part.startswith("test_") for part in parts):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        try:
            with warnings.catch_warnings(action="ignore"):  # of odd escapes: theirs, not our user's
                tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue  # a template or a data file with the wrong suffix holds no docstrings
        for owner, name, node in _public(tree, module):
            docstring = ast.get_docstring(node, clean=True)
            if docstring:
                yield module, owner, name, docstring


def _public(tree: ast.Module, module: str) -> Iterator[tuple[str, str, ast.ClassDef | ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield module, node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            owner = f"{module}.{node.name}"
            yield owner, "", node
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    yield owner, member.name, member


def _summary_and_body(docstring: str) -> tuple[str, str]:
    summary, _, body = inspect.cleandoc(docstring).partition("\n\n")
    return " ".join(summary.split()), body.strip()
