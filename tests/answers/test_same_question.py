from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bessemer.answers.same_question import ask_the_same
from bessemer.llm.client import Client
from bessemer.llm.request_cache import RequestCache
from scripted_llm import Answer, Script, chat, fault, serving, settings

ONE, OTHER = "How often may the pump start in an hour?", "What is the limit of starts per hour of the pump?"


def verdict(script: Script, folder: Path, question: str = ONE, other: str = OTHER) -> tuple[bool, list[str]]:
    """What is said, and what was asked."""
    with serving(script) as server, RequestCache(folder / "replies.sqlite") as cache:
        said = ask_the_same(question, other, Client(settings(server, max_retries=0), cache), 2.0)
        return said, server.users()


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        *(("yes", True), ("Yes.", True), ("**yes**", True), ("是", True)),
        *((said, False) for said in ("no", "No, they do not.", "", "Yesterday", "It depends: yes", "不是")),
    ],
)
def test_the_language_model_decides(answer: str, same: bool, tmp_path: Path) -> None:
    said, users = verdict(lambda *_: chat(answer), tmp_path)
    assert said is same
    (user,) = users
    assert ONE in user
    assert OTHER in user


@pytest.mark.parametrize("broken", [fault(500), fault(400), Answer(chat("yes").body, seconds=4.0)])
def test_no_verdict_is_no_yes(broken: Answer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        said, _ = verdict(lambda *_: broken, tmp_path)
    assert not said


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("Is there a limit?", "Is there no limit?"),
        ("Are valves closed?", "Aren't valves closed?"),
        ("Can I start it?", "Can't I start it?"),
        ("Can I start it?", "Can’t I start it?"),
        ("Muss ich sie warten?", "Muss ich sie nicht warten?"),
        ("水泵可以启动吗？", "水泵不可以启动吗？"),
        ("What does E17 mean?", "What is the meaning of E18?"),
        ("Limits in 2024?", "What are the limits in 2025?"),
        ("Limits for the EU?", "What are the limits for the US?"),
        ("Convert EUR to USD?", "Convert USD to EUR?"),
        ("How do I change the oil filter?", "How do I change the filter oil?"),
    ],
)
def test_what_surely_asks_something_else_takes_no_call(question: str, other: str, tmp_path: Path) -> None:
    assert verdict(lambda *_: chat("yes"), tmp_path, question, other) == (False, [])
