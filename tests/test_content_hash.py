from __future__ import annotations

import functools
import subprocess
import sys
from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.config import NegativesConfig
from bessemer.content_hash import LONG, ContentHasher, VisibleFiles, content_hash
from bessemer.errors import ConfigError
from bessemer.types import Document, Passage, Query


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Pair:
    left: str
    right: str


@dataclass(frozen=True)
class Riap:
    left: str
    right: str


@dataclass(frozen=True)
class Tuned:
    """Stamped with its model, and more than its model."""

    fingerprint: str
    loss: float


@dataclass
class Loose:
    left: str


class Model:
    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def count_tokens(self, text: str) -> int:
        return len(text)


def double(x: int, by: int = 2) -> int:
    return x * by


def adder(n: int) -> Any:
    def add(x: int) -> int:
        return x + n

    return add


EQUAL = [
    ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    ({"a": 1}, OrderedDict(a=1)),
    ({"a": 1}, Counter("a")),
    ({3, 1, 2}, frozenset({2, 3, 1})),
    ([1, "x"], (1, "x")),
    (float("nan"), -float("nan")),
    (np.float32(0.5), 0.5),
    (np.arange(6).reshape(2, 3).T, np.ascontiguousarray(np.arange(6).reshape(2, 3).T)),
    (Passage("p", "d", "text"), Passage("p", "d", "text")),
    (NegativesConfig(), NegativesConfig(n_negatives=4)),
    (adder(3), adder(3)),
    (Model("m").count_tokens, Model("m").count_tokens),
]

DIFFERENT = [
    (1, 1.0),
    (1, True),
    (0, False),
    (None, "None"),
    ("1", 1),
    ("a", b"a"),
    (0.0, -0.0),
    (("ab", "c"), ("a", "bc")),
    (((1,), 2), (1, (2,))),
    ([[], []], [[[]]]),
    ({"a": "b"}, {"b": "a"}),
    ([], {}),
    ([1, 2], [2, 1]),
    (tuple(range(LONG)), (*range(LONG - 1), 0)),
    (Pair("a", "b"), Riap("a", "b")),
    (Pair("a", "b"), Pair("b", "a")),
    (Query("q", "text"), Query("q", "text", origin="mined")),
    (Colour.RED, Colour.BLUE),
    (NegativesConfig(), NegativesConfig(n_negatives=5)),
    (np.zeros(3, np.float32), np.zeros(3, np.int32)),
    (np.zeros((2, 3)), np.zeros((3, 2))),
    (double, adder),
    (adder(3), adder(4)),
    (functools.partial(double, by=3), functools.partial(double, by=4)),
    (Model("a"), Model("b")),
    (Tuned("a", 0.1), Tuned("a", 0.2)),
    (Model("a").count_tokens, Model("b").count_tokens),
]


class Heavy:
    """Its fingerprint takes a while, and is part of the content key."""

    n_asked = 0

    @property
    def fingerprint(self) -> str:
        self.n_asked += 1
        return "weights"

    @property
    def content_key(self) -> str:
        return f"{self.fingerprint}:64"


def test_a_fingerprint_is_worked_out_once() -> None:
    heavy = Heavy()
    content_hash(heavy)
    assert heavy.n_asked == 1


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_equal_content_equal_hash(left: Any, right: Any) -> None:
    assert content_hash(left) == content_hash(right)


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_content_different_hash(left: Any, right: Any) -> None:
    assert content_hash(left) != content_hash(right)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "builtins.object"),
        (Loose("x"), "Loose"),
        ({"deep": [Passage("p", "d", "x"), iter([1])]}, "list_iterator"),
        (lambda: 1, "lambda"),
        (len, "builtin"),
        (np.array([object()]), "Python objects"),
        (Model, "type"),
    ],
)
def test_what_cannot_be_hashed_is_named(value: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        content_hash(value)


def test_same_hash_in_another_process() -> None:
    code = (
        "from bessemer.content_hash import content_hash; from bessemer.types import Document\n"
        "print(content_hash([Document('d', '文', metadata={'b': {'x', 'y', 'z'}, 'a': 0.1}), None]))"
    )
    here = content_hash([Document("d", "文", metadata={"a": 0.1, "b": {"z", "y", "x"}}), None])
    for seed in ("1", "2"):  # of Python's string hash, which orders sets
        run = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == here


def test_path_is_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "one" / "docs", tmp_path / "two" / "docs"
    for folder in (first, second):
        (folder / "sub").mkdir(parents=True)
        (folder / "a.md").write_text("alpha")
        (folder / "sub" / "b.md").write_text("beta")
    before = content_hash(first)
    assert before == content_hash(second)
    (second / "sub" / "b.md").write_text("gamma")
    assert content_hash(second) != before
    (first / "a.md").rename(first / "c.md")
    assert content_hash(first) != before
    assert content_hash(first / "c.md") != content_hash(first / "sub" / "b.md")


def test_hidden_folders_of_documents_count_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "part" / ".git").mkdir(parents=True)
    (folder / "part" / "a.md").write_text("a", encoding="utf-8")
    before = content_hash(VisibleFiles(folder))
    (folder / "part" / ".git" / "index").write_text("1", encoding="utf-8")
    assert content_hash(VisibleFiles(folder)) == before
    (folder / ".git").mkdir()
    assert content_hash(VisibleFiles(folder)) != before
    (folder / ".git").rmdir()
    (folder / "part" / "a.md").write_text("b", encoding="utf-8")
    assert content_hash(VisibleFiles(folder)) != before
    with pytest.raises(ConfigError, match="cannot be read"):
        content_hash(VisibleFiles(tmp_path / "nowhere"))


def test_path_follows_links_to_files_only(tmp_path: Path) -> None:
    outside = tmp_path / "outside.md"
    outside.write_text("one")
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "link.md").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    before = content_hash(folder)
    outside.write_text("two")
    assert content_hash(folder) != before


def test_path_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone.*cannot be read.*check the path"):
        content_hash(tmp_path / "gone")


def test_a_known_hash_is_used_for_the_same_object_only() -> None:
    hasher = ContentHasher()
    corpus = tuple(Passage(f"p{i}", "d", "text") for i in range(LONG))
    hasher.note(corpus, "known")
    assert hasher.digest(corpus) == "known"
    assert hasher.digest((*corpus[:-1], corpus[-1])) == content_hash(corpus)
    assert hasher.digest([1, 2]) == content_hash([1, 2])


def test_what_may_change_is_hashed_again() -> None:
    hasher = ContentHasher()
    for value in ([1], {"a": 1}, np.zeros(2)):
        hasher.note(value, "known")
        assert hasher.digest(value) == content_hash(value)
