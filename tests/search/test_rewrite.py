from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from bessemer.errors import ConfigError, ServiceError
from bessemer.llm.ledger import Tokens
from bessemer.llm.request import Reply, Request
from bessemer.search.rewrite import N_VARIANTS, Rewritten, rewrite

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


class Slow:
    def ask(self, requests: Sequence[Request], *, deadline: float | None = None) -> list[Reply]:
        raise ServiceError("no answer within 2 s")


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
        ("", ()),
    ],
)
def test_keywords_in_whatever_form(answer: str, words: tuple[str, ...]) -> None:
    assert rewrite("q", ["keywords"], Says({"keywords": answer}), 2.0).keywords == words


def test_too_slow_is_the_plain_query(caplog: pytest.LogCaptureFixture) -> None:
    assert rewrite("q", ["keywords"], Slow(), 2.0) == Rewritten()
    assert "searched as it is" in caplog.text


def test_an_unknown_way() -> None:
    with pytest.raises(ConfigError, match="--rewrite guess: unknown; give one or more of keywords, multi-query, hyde"):
        rewrite("q", ["guess"], Slow(), 2.0)
