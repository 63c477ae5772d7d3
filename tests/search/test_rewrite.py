from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bessemer.config import LLMConfig
from bessemer.errors import ConfigError
from bessemer.llm.client import Client
from bessemer.llm.ledger import Tokens
from bessemer.llm.request import Reply, Request
from bessemer.llm.request_cache import RequestCache
from bessemer.search.rewrite import N_VARIANTS, WAYS, Rewritten, keywords_in, keywords_reply, rewrite
from scripted_llm import Answer, chat, fault, serving

ANSWERS = {
    "keywords": '["centrifugal pump", "start frequency", "E17"]',
    "other ways": json.dumps(["How many starts?", "Starts per hour?", "Limit of starts?", "A fourth?"]),
    "short passage": "The pump may\nstart twelve times.",
}


class Says:
    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.requests: list[Request] = []

    def ask(self, requests: Sequence[Request], *, deadline: float | None = None) -> list[Reply]:
        assert deadline == 2.0
        self.requests += requests
        found = (next(answer for key, answer in self.answers.items() if key in r.system) for r in requests)
        return [Reply(text, Tokens(0, 0)) for text in found]


def answering(request: dict[str, Any]) -> str:
    return next(answer for key, answer in ANSWERS.items() if key in request["messages"][0]["content"])


def test_all_ways_at_once() -> None:
    llm = Says(ANSWERS)
    found = rewrite("pump limit?", ["keywords", "multi-query", "hyde"], llm, 2.0)
    assert found == Rewritten(
        ("centrifugal pump", "start frequency", "E17"),
        ("How many starts?", "Starts per hour?", "Limit of starts?"),
        "The pump may start twelve times.",
    )
    assert len(found.variants) == N_VARIANTS
    assert all(request.user == "pump limit?" and "data" in request.system for request in llm.requests)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("pump, start frequency\n- E17", ("pump", "start frequency", "E17")),
        ('Here you go: ["水泵", "启动次数"]', ("水泵", "启动次数")),
        ('["cut off", "in the', ("cut off", "in the")),
        ('[1, {"a": 2}, "pump"]', ("pump",)),
        (r'["\ud83d", "pump \ud83d\ude00"]', ("\ufffd", "pump 😀")),
        ("", ()),
    ],
)
def test_keywords_in_whatever_form(answer: str, words: tuple[str, ...]) -> None:
    assert rewrite("q", ["keywords"], Says({"keywords": answer}), 2.0).keywords == words


def test_keywords_to_learn_from_are_read_as_they_were() -> None:
    words = ("启动次数", 'a "quoted" name', "pump, centrifugal")
    assert keywords_in(keywords_reply(words)) == words


@pytest.mark.parametrize(
    ("late", "left_out"),
    [
        ("keywords", {"keywords": ()}),
        ("multi-query", {"variants": ()}),
        ("hyde", {"hypothetical": ""}),
    ],
)
@pytest.mark.parametrize(("is_slow", "why"), [(True, "no answer within 1 s"), (False, "1 of 3 calls failed")])
def test_one_way_that_does_not_come_takes_no_other_with_it(
    late: str, left_out: Mapping[str, Any], is_slow: bool, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    system = WAYS[late]("").system

    def script(request: dict[str, Any], number: int) -> Answer:
        if request["messages"][0]["content"] != system:
            return chat(answering(request))
        return replace(chat(answering(request)), seconds=5.0) if is_slow else fault(500)

    with serving(script) as server, RequestCache(None) as cache:
        llm = Client(LLMConfig(url=server.url, model="m", max_retries=0), cache)
        found = rewrite("pump limit?", list(WAYS), llm, 1.0)
        assert len(server.requests) == 3  # none was sent again
    whole = Rewritten(
        ("centrifugal pump", "start frequency", "E17"),
        ("How many starts?", "Starts per hour?", "Limit of starts?"),
        "The pump may start twelve times.",
    )
    assert found == replace(whole, **left_out)
    (warning,) = caplog.messages
    assert f"searched without {late}: " in warning
    assert why in warning


def test_a_way_that_is_refused_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with serving(lambda *_: fault(400, "too long")) as server, RequestCache(None) as cache:
        llm = Client(LLMConfig(url=server.url, model="m", max_retries=0), cache)
        assert rewrite("pump limit?", ["hyde"], llm, 2.0) == Rewritten()
    assert caplog.messages == ["the query is searched without hyde: 400 too long"]


def test_an_unknown_way() -> None:
    with pytest.raises(ConfigError, match="--rewrite guess: unknown; give one or more of keywords, multi-query, hyde"):
        rewrite("q", ["guess"], Says({}), 2.0)
