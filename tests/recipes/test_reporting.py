from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bessemer.recipes.data import Material
from bessemer.recipes.reporting import _command, truncation
from bessemer.types import Collection, Judged, Passage, Query


class WordsModel:
    """Reads five words of a text, and one token around it."""

    query_max_length = max_length = 6

    def tokenize(self, texts: Sequence[str], side: str) -> list[list[int]]:
        return [[0] for _ in texts]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/usr/bin/bessemer", "adapt", "--out", "my out"], "bessemer adapt --out 'my out'"),
        (["/lib/bessemer/__main__.py", "demo"], "bessemer demo"),
        (["/lib/ipykernel_launcher.py", "-f", "kernel-7.json"], ""),
        (["-c"], ""),
        ([""], ""),
    ],
)
def test_the_command_is_ours_or_none(arguments: list[str], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert _command() == command


def test_queries_are_cut_with_the_turns_before_them() -> None:
    queries = (Query("a", "and now", history=("where is the cache", "who made it")), Query("b", "what is the cache"))
    passages = (Passage("p", "p", "one two three four five"), Passage("q", "q", "of six words", title="A long title"))
    material = Material(Collection("c", passages, {"test": Judged(queries, {})}), {})
    encoder: Any = WordsModel()
    assert truncation(material, encoder) == {"passage": 1, "query": 1}
