"""The client against a real server that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bessemer.config import LLMConfig
from bessemer.errors import ArtifactError, ConfigError, ServiceError
from bessemer.llm.client import Client
from bessemer.llm.ledger import Tokens, Usage
from bessemer.llm.request import Reply, Request
from bessemer.llm.request_cache import RequestCache
from scripted_llm import Answer, ask, chat, echo, fault, serving, settings


def test_replies_come_in_order_and_are_never_asked_again(cache: RequestCache) -> None:
    def later_ones_first(request: dict[str, Any], number: int) -> Answer:
        answer = echo(request, number)
        answer.seconds = 0.05 if number % 2 == 0 else 0.0
        return answer

    with serving(later_ones_first) as server:
        client = Client(settings(server, concurrency=4), cache)
        assert [reply.text for reply in client.ask(ask(10))] == [f"re: question {i}" for i in range(10)]
        assert 1 < server.most_at_once <= 4
        again = Client(settings(server), cache)
        assert [reply.text for reply in again.ask(ask(11))][10] == "re: question 10"
        assert len(server.requests) == 11
    assert client.ledger.usage == Usage(n_calls=10, spent=Tokens(100, 50))
    assert again.ledger.usage == Usage(n_calls=1, spent=Tokens(10, 5), n_kept=10, kept=Tokens(100, 50))


def test_what_is_sent(cache: RequestCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESSEMER_LLM_API_KEY", "sk-secret")
    with serving(echo) as server:
        Client(settings(server), cache).ask([Request("be brief", "why?", max_tokens=7, temperature=0.5)])
    (sent,) = server.requests
    assert sent["model"] == "m"
    assert (sent["max_tokens"], sent["temperature"]) == (7, 0.5)
    assert [(m["role"], m["content"]) for m in sent["messages"]] == [("system", "be brief"), ("user", "why?")]
    assert server.headers[0]["authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize("key", ["model", "system", "user", "max_tokens", "temperature"])
def test_another_prompt_model_or_parameter_is_another_request(key: str) -> None:
    one = Request("s", "u", 5, 0.0)
    other = {"system": "t", "user": "v", "max_tokens": 6, "temperature": 0.1}
    changed = Request(**{**vars(one), key: other[key]}) if key != "model" else one
    assert changed.key("n" if key == "model" else "m") != one.key("m") == Request("s", "u", 5, 0.0).key("m")


def without_content(finish: str, **message: str) -> Answer:
    return Answer({"choices": [{"finish_reason": finish, "message": {"content": None, **message}}]})


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (without_content("content_filter"), Reply("", Tokens(7, 0))),
        (without_content("stop", refusal="I cannot help."), Reply("I cannot help.", Tokens(7, 5))),
        (without_content("length"), Reply("", Tokens(7, 20), is_whole=False)),  # thoughts took all 20 tokens
    ],
    ids=["filtered", "refused", "cut"],
)
def test_an_answer_without_content_is_one(answer: Answer, reply: Reply, cache: RequestCache) -> None:
    with serving(lambda *_: answer) as server:
        assert Client(settings(server), cache).ask(ask(1)) == [reply]
        assert Client(settings(server), cache).ask(ask(1)) == [reply]
        assert len(server.requests) == 1


def test_half_a_surrogate_pair_in_an_answer_is_replaced(cache: RequestCache) -> None:
    with serving(lambda *_: chat("a \ud83d, \ud83d\ude00 \ude00")) as server:
        assert Client(settings(server), cache).ask(ask(1))[0].text == "a \ufffd, 😀 \ufffd"


def test_half_a_surrogate_pair_in_a_refusal_is_replaced(cache: RequestCache) -> None:
    with serving(lambda *_: fault(400, "no \ud83d")) as server:
        assert Client(settings(server), cache).ask(ask(1))[0].refused == "400 no \ufffd"


def unsupported(parameter: str, *, value: bool = False) -> Answer:
    """As newer hosted models refuse a parameter, or its value."""
    error = {"message": f"Unsupported: '{parameter}'", "param": parameter, "code": "unsupported_parameter"}
    return Answer({"error": {**error, "code": "unsupported_value"} if value else error}, 400)


def takes_neither(request: dict[str, Any], number: int) -> Answer:
    if request["model"] != "m":
        return echo(request, number)
    if "max_tokens" in request:
        return unsupported("max_tokens")
    return unsupported("temperature", value=True) if "temperature" in request else echo(request, number)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_parameters_that_a_model_does_not_take_are_put_otherwise(
    concurrency: int, cache: RequestCache, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), serving(takes_neither) as server:
        client = Client(settings(server, concurrency=concurrency), cache)
        assert [reply.text for reply in client.ask(ask(8))] == [f"re: question {i}" for i in range(8)]
        n_learning = len(server.requests) - 8
        assert n_learning == 2 if concurrency == 1 else 2 <= n_learning <= 16
        client.with_model("other").ask(ask(1))
        client.with_model("other").with_model("m").ask(ask(9))
        *_, other, again = server.requests
        assert len(server.requests) == n_learning + 8 + 2
    assert (other["model"], other["max_tokens"], other["temperature"]) == ("other", 20, 0.0)
    assert (again["model"], again["max_completion_tokens"]) == ("m", 20)
    assert not {"max_tokens", "temperature"} & again.keys()
    assert [message.split(": 400")[0] for message in caplog.messages if "without" in message] == [
        "language model: m is asked without max_tokens",
        "language model: m is asked without temperature",
    ]


def test_a_parameter_that_is_refused_for_its_value_is_no_other_parameter(cache: RequestCache) -> None:
    error = {"message": "max_tokens is too large", "param": "max_tokens", "code": "invalid_value"}
    with serving(lambda *_: Answer({"error": error}, 400)) as server:
        (reply,) = Client(settings(server), cache).ask(ask(1))
        assert len(server.requests) == 1
    assert reply.refused == "400 max_tokens is too large"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give --llm URL"),
        ({"url": "localhost:8000", "model": "m"}, "--llm localhost:8000: give a URL such as http"),
        ({"url": "http://[::1/v1", "model": "m"}, "give a URL such as http"),
        ({"url": "http://localhost:80b0/v1", "model": "m"}, "give a URL such as http"),
        ({"url": "http://:8000/v1", "model": "m"}, "give a URL such as http"),
    ],
)
def test_what_must_be_given(given: dict[str, str], message: str, cache: RequestCache) -> None:
    with pytest.raises(ConfigError, match=message):
        Client(LLMConfig(**given), cache)


@pytest.mark.parametrize(("listed", "model"), [(("first", "second"), "first"), ((), "default")])
def test_without_a_name_the_first_listed_model_is_asked(
    listed: tuple[str, ...], model: str, cache: RequestCache
) -> None:
    with serving(echo) as server:
        server.models = listed
        client = Client(LLMConfig(url=server.url), cache)
        client.ask(ask(1))
    assert client.model == server.requests[0]["model"] == model


def test_a_bare_host_is_completed(cache: RequestCache) -> None:
    with serving(echo) as server:
        Client(settings(server, url=server.url.removesuffix("/v1")), cache).ask(ask(1))
        assert len(server.requests) == 1


def test_within_a_running_loop(cache: RequestCache) -> None:
    async def cell_of_a_notebook(client: Client) -> str:
        return client.ask(ask(1))[0].text

    with serving(echo) as server:
        assert asyncio.run(cell_of_a_notebook(Client(settings(server), cache))) == "re: question 0"


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "replies.sqlite").write_text("not a database, and long enough to be looked at as one" * 20)
    with pytest.raises(ArtifactError, match="move it away"):
        RequestCache(tmp_path / "replies.sqlite")


def test_killed_midway_no_call_is_made_twice(tmp_path: Path) -> None:
    """SIGKILL while calls are in flight; the second run asks for what the first had no answer to."""

    def slow(request: dict[str, Any], number: int) -> Answer:
        answer = echo(request, number)
        answer.seconds = 0.05
        return answer

    with serving(slow) as server:
        program = textwrap.dedent(f"""
            from pathlib import Path
            from bessemer.config import LLMConfig
            from bessemer.llm.client import Client
            from bessemer.llm.request import Request
            from bessemer.llm.request_cache import RequestCache
            with RequestCache(Path({str(tmp_path / "replies.sqlite")!r})) as cache:
                client = Client(LLMConfig(url={server.url!r}, model="m", concurrency=4), cache)
                client.ask([Request("be brief", f"question {{i}}", max_tokens=20) for i in range(200)])
        """)
        process = subprocess.Popen(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
        )
        while len(server.requests) < 30:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.2)
        with RequestCache(tmp_path / "replies.sqlite") as cache:
            n_before = len(server.requests)
            replies = Client(settings(server, concurrency=4), cache).ask(ask(200))
        assert [reply.text for reply in replies] == [f"re: question {i}" for i in range(200)]
        assert len(server.requests) - n_before < 200 - 20
        asked = Counter(server.users())
        assert max(asked.values()) <= 2
        assert sum(n == 2 for n in asked.values()) <= 4  # those that were in flight when it died
        assert len(asked) == 200


def test_a_deadline_for_those_who_wait(cache: RequestCache) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        answer = echo(request, number)
        answer.seconds = 2.0 if request["messages"][-1]["content"] == "question 1" else 0.0
        return answer

    with serving(script) as server:
        client = Client(settings(server), cache)
        with pytest.raises(ServiceError, match=r"no answer within 0\.5 s"):
            client.ask(ask(2), deadline=0.5)
        assert client.ask(ask(1), deadline=0.5)[0].text == "re: question 0"  # this one was in time, and is kept
        assert len(server.requests) == 2
        assert client.ledger.usage.spent == Tokens(10 + 7, 5 + 20)  # who hangs up may be charged all the same


def test_the_same_request_twice_is_one_call(cache: RequestCache) -> None:
    with serving(echo) as server:
        replies = Client(settings(server), cache).ask([*ask(2), *ask(2)])
        assert [reply.text for reply in replies] == ["re: question 0", "re: question 1"] * 2
        assert len(server.requests) == 2


def test_a_key_with_a_line_break_is_sent_without_it(cache: RequestCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abc\n")
    with serving(echo) as server:
        Client(settings(server), cache).ask(ask(1))
        assert server.headers[0]["authorization"] == "Bearer sk-abc"


def test_a_key_that_no_header_can_carry(cache: RequestCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\N{EM DASH}abc")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY: a key is printable ASCII") as caught:
        Client(LLMConfig(url="http://localhost:1/v1", model="m"), cache)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        "<think>or [3]?</think>\n yes",
        "yes<think>and then it broke off",
        "Okay, is it [3]?\n</think>\n\nyes",
        "first</think>yes<think>more</think>",
    ],
)
def test_what_a_model_thinks_is_no_part_of_its_answer(answer: str, cache: RequestCache) -> None:
    with serving(lambda *_: chat(answer)) as server:
        assert Client(settings(server), cache).ask(ask(1))[0].text == "yes"
