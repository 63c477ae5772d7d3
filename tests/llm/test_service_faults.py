"""A service that fails, refuses or is not there: what is asked again, and what people are told."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bessemer.errors import ServiceError
from bessemer.llm import endpoint
from bessemer.llm.client import Client
from bessemer.llm.endpoint import MAX_BYTES
from bessemer.llm.request_cache import RequestCache
from scripted_llm import Answer, ask, chat, echo, fault, serving, settings


@pytest.mark.parametrize(
    "first",
    [
        fault(429, retry_after="0"),
        fault(500),
        fault(503),
        Answer(chat("whole").body, cut=30),
        Answer(b"<html>busy</html>"),
        Answer({"choices": []}),
        Answer({"choices": [{"message": {"content": None}}]}),
        Answer(b""),
        Answer(b"{" + b" " * (MAX_BYTES + 1)),
        Answer(chat("late").body, seconds=1.5),
    ],
    ids=["429", "500", "503", "cut", "no JSON", "no choice", "no content", "empty", "huge", "slow"],
)
def test_what_goes_wrong_once_is_asked_again(first: Answer, cache: RequestCache) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        return first if number == 0 else echo(request, number)

    with serving(script) as server:
        (reply,) = Client(settings(server, timeout=0.7), cache).ask(ask(1))
    assert reply.text == "re: question 0"
    assert len(server.requests) == 2


def test_pauses_double_up_to_a_limit(cache: RequestCache, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def passed(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(endpoint, "asyncio", SimpleNamespace(sleep=passed))
    with serving(lambda request, number: fault(503) if number < 6 else echo(request, number)) as server:
        Client(settings(server, max_retries=6), cache).ask(ask(1))
    for pause, longest in zip(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 8.0], strict=True):
        assert 0.75 * longest <= pause <= longest


def test_a_service_that_is_down_stops_the_run_and_loses_nothing(cache: RequestCache) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        return echo(request, number) if number < 3 else fault(500, "out of order", x_should_retry="false")

    with serving(script) as server:
        client = Client(settings(server, concurrency=1), cache)
        with pytest.raises(ServiceError, match="5 calls in a row failed, the last with 500 out of order; all answers"):
            client.ask(ask(50))
        assert len(server.requests) == 3 + 5
        server.script = echo
        assert len(Client(settings(server), cache).ask(ask(50))) == 50
        assert len(server.requests) == 3 + 5 + 47


def test_single_failures_are_reported_at_the_end(cache: RequestCache) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        broken = request["messages"][-1]["content"] in ("question 3", "question 7")
        return fault(500, x_should_retry="false") if broken else echo(request, number)

    with serving(script) as server:
        with pytest.raises(ServiceError, match="2 of 10 calls failed, the last with 500 scripted; the other answers"):
            Client(settings(server, concurrency=1), cache).ask(ask(10))
        server.script = echo
        assert len(Client(settings(server), cache).ask(ask(10))) == 10
        assert len(server.requests) == 12


def test_a_server_that_is_not_there(cache: RequestCache) -> None:
    with serving(echo) as server:
        pass
    with pytest.raises(ServiceError, match="Connection error"):
        Client(settings(server, max_retries=0), cache).ask(ask(2))


def test_a_request_that_is_refused_is_no_failure(cache: RequestCache) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        return fault(400, "context length exceeded") if number == 0 else echo(request, number)

    with serving(script) as server:
        replies = Client(settings(server, concurrency=1), cache).ask(ask(2))
        assert [reply.refused for reply in replies] == ["400 context length exceeded", ""]
        Client(settings(server, concurrency=1), cache).ask(ask(2))
        assert len(server.requests) == 3  # it is not kept: another server may take it


def test_a_service_that_refuses_all_alike_is_quoted(cache: RequestCache) -> None:
    with serving(lambda *_: fault(400, "no credit left")) as server:
        with pytest.raises(ServiceError, match="5 calls in a row were refused alike, and none answered: 400 no credit"):
            Client(settings(server, concurrency=1), cache).ask(ask(20))
        assert len(server.requests) == 5


def test_refusals_that_differ_are_of_single_requests(cache: RequestCache) -> None:
    with serving(lambda _, number: fault(400, f"{number} tokens too long")) as server:
        assert all(reply.refused for reply in Client(settings(server), cache).ask(ask(20)))


def test_refusals_of_a_model_that_answers_are_of_single_requests(cache: RequestCache) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        return echo(request, number) if request["messages"][-1]["content"] == "question 0" else fault(400, "filtered")

    with serving(script) as server:
        for _ in range(2):  # the second time, the one answer is kept from before
            replies = Client(settings(server, concurrency=1), cache).ask(ask(20))
            assert [reply.refused for reply in replies] == ["", *["400 filtered"] * 19]


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "set BESSEMER_LLM_API_KEY"), (403, "set BESSEMER"), (404, "check --llm and --llm-model")]
)
def test_what_fails_for_all_is_asked_once(status: int, hint: str, cache: RequestCache) -> None:
    with serving(lambda *_: fault(status, "no")) as server:
        with pytest.raises(ServiceError, match=f"{status} no; {hint}"):
            Client(settings(server, concurrency=1), cache).ask(ask(20))
        assert len(server.requests) == 1


def test_the_key_is_in_no_message_file_or_log(
    cache: RequestCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")

    def script(request: dict[str, Any], number: int) -> Answer:
        return echo(request, number) if number == 0 else fault(401, "Incorrect API key provided: sk-very-secret.")

    with caplog.at_level(logging.INFO), serving(script) as server, pytest.raises(ServiceError) as caught:
        Client(settings(server, concurrency=1), cache).ask(ask(3))
    assert "(key)" in str(caught.value)
    assert "secret" not in str(caught.value) + caplog.text
    assert all(b"secret" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("headers", "n_sent"),
    [
        ({"x_should_retry": "false"}, 1),
        ({"retry_after": "3600"}, 1),
        ({"retry_after_ms": "1"}, 3),
        ({"retry_after": "0.001"}, 3),
    ],
)
def test_a_service_says_whether_and_when_it_is_asked_again(
    headers: dict[str, str], n_sent: int, cache: RequestCache
) -> None:
    with serving(lambda *_: fault(503, **headers)) as server:
        with pytest.raises(ServiceError, match="1 of 1 calls failed, the last with 503"):
            Client(settings(server, max_retries=2), cache).ask(ask(1))
        assert len(server.requests) == n_sent


def test_an_answer_that_was_too_long_is_known_as_such(cache: RequestCache) -> None:
    with serving(lambda *_: chat("[1, 2", finish="length")) as server:
        (reply,) = Client(settings(server), cache).ask(ask(1))
        (again,) = Client(settings(server), cache).ask(ask(1))
    assert not reply.is_whole
    assert again == reply
