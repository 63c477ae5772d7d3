"""What calls may take and what they took: the ledger and its budget, against a real server."""

from __future__ import annotations

from typing import Any

import pytest

from bessemer.config import LLMConfig
from bessemer.errors import BudgetError, ServiceError
from bessemer.llm.client import Client
from bessemer.llm.ledger import Ledger, Tokens, Usage, estimated_tokens, total_account
from bessemer.llm.request import Reply
from bessemer.llm.request_cache import RequestCache
from scripted_llm import Answer, ask, chat, echo, fault, serving, settings


def test_a_budget_of_tokens_is_never_passed(cache: RequestCache) -> None:
    """Each call may take 27 tokens by the estimate and takes 15: the fourth might pass 60."""
    (request, *_) = ask(1)
    worst = estimated_tokens(request.system) + estimated_tokens(request.user) + 20
    assert worst == 3 + 4 + 20
    with serving(echo) as server:
        client = Client(settings(server, max_tokens=60, concurrency=1), cache)
        with pytest.raises(BudgetError, match=r"--max-tokens 60: .*\(3 calls made, 45 tokens\); all answers are kept"):
            client.ask(ask(10))
        assert len(server.requests) == 3
        assert len(Client(settings(server), cache).ask(ask(10))) == 10
        assert len(server.requests) == 10


def slow(request: dict[str, Any], number: int) -> Answer:
    answer = echo(request, number)
    answer.seconds = 0.1
    return answer


def test_calls_in_flight_together_keep_the_budget_too(cache: RequestCache) -> None:
    """2 x 27 <= 60 < 3 x 27; once two took 15 each, 30 + 27 <= 60 < 45 + 27."""
    with serving(slow) as server:
        client = Client(settings(server, max_tokens=60, concurrency=8), cache)
        with pytest.raises(BudgetError, match=r"3 calls made, 45 tokens"):
            client.ask(ask(10))
        assert len(server.requests) == 3
        assert server.most_at_once == 2


def test_a_budget_that_calls_in_flight_only_seem_to_pass_lasts(cache: RequestCache) -> None:
    """Eight calls of 15 tokens take 120; eight at their worst, together, 216."""
    with serving(slow) as server:
        assert len(Client(settings(server, max_tokens=135, concurrency=8), cache).ask(ask(8))) == 8


OF_ONE_CALL = Tokens(10, 5)
AT_WORST = Tokens(3 + 4, 20)


@pytest.mark.parametrize(
    ("first", "took"),
    [
        (Answer({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}), Tokens(9, 2)),
        (Answer({"choices": []}), AT_WORST),
        (Answer(chat("whole").body, cut=30), AT_WORST),
        (Answer(chat("late").body, seconds=1.5), AT_WORST),
        (fault(429, retry_after_ms="1"), None),
        (fault(500, retry_after_ms="1"), None),
    ],
    ids=["broken, counted", "broken", "cut", "slow", "429", "500"],
)
def test_every_send_that_may_be_charged_is_counted(first: Answer, took: Tokens | None, cache: RequestCache) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        return first if number == 0 else echo(request, number)

    with serving(script) as server:
        client = Client(settings(server, timeout=0.7), cache)
        client.ask(ask(1))
    paid = [took, OF_ONE_CALL] if took else [OF_ONE_CALL]
    assert client.ledger.usage == Usage(len(paid), sum(paid, Tokens(0, 0)))


def test_a_call_that_fails_in_the_end_is_counted(cache: RequestCache) -> None:
    """Three sends of 10 + 5 tokens each, and no answer among them."""
    with serving(lambda *_: Answer({"choices": [], "usage": chat("").body["usage"]})) as server:
        client = Client(settings(server), cache)
        with pytest.raises(ServiceError, match="an answer that is no chat completion"):
            client.ask(ask(1))
        assert len(server.requests) == 3
    assert client.ledger.usage == Usage(3, Tokens(30, 15))


def test_a_service_that_is_not_there_costs_nothing(cache: RequestCache) -> None:
    with serving(echo) as server:
        pass
    client = Client(settings(server, max_retries=1, max_tokens=30), cache)
    with pytest.raises(ServiceError, match="Connection error"):
        client.ask(ask(1))
    assert client.ledger.usage == Usage()


@pytest.mark.parametrize(
    "bad", [Answer({"choices": []}), Answer(chat("late").body, seconds=1.0)], ids=["broken", "slow"]
)
def test_what_is_sent_again_keeps_the_budget(bad: Answer, cache: RequestCache) -> None:
    """Each send is 27 tokens at worst, and counts so: the third would pass 60."""
    with serving(lambda *_: bad) as server:
        client = Client(settings(server, max_tokens=60, timeout=0.3, max_retries=5), cache)
        with pytest.raises(BudgetError, match=r"--max-tokens 60: .*\(2 calls made, 54 tokens\)"):
            client.ask(ask(1))
        assert len(server.requests) == 2


def test_a_budget_of_money(cache: RequestCache) -> None:
    """A call is reserved at 7 * 1 + 20 * 3 = 67 millionths and takes 10 * 1 + 5 * 3 = 25."""
    prices = {"input_price": 1.0, "output_price": 3.0, "max_cost": 100e-6}
    with serving(echo) as server:
        client = Client(settings(server, concurrency=1, **prices), cache)
        with pytest.raises(BudgetError, match=r"--max-cost 0.0001: .*\(2 calls made, 30 tokens, 0.0001\)"):
            client.ask(ask(10))
    assert client.ledger.account()["cost"] == pytest.approx(50e-6)


def test_an_estimate_asks_nothing(cache: RequestCache) -> None:
    with serving(echo) as server:
        client = Client(settings(server, input_price=1.0, output_price=3.0, concurrency=4), cache)
        guess = client.estimate(ask(8))
        assert (guess["calls"], guess["seconds"], guess["seconds_guessed"]) == (8, 2.0 * 8 / 4, True)
        client.ask(ask(2))
        found = client.estimate(ask(8))
        assert len(server.requests) == 2
    assert (found["calls"], found["calls_kept"], found["input_tokens"], found["output_tokens"]) == (6, 2, 42, 120)
    assert found["cost"] == pytest.approx((42 + 3 * 120) / 1e6)
    mean = cache.seconds_per_call()
    assert mean is not None
    assert found["seconds"] == pytest.approx(mean * 6 / 4)
    assert not found["seconds_guessed"]


def test_what_a_service_does_not_count_is_estimated(cache: RequestCache) -> None:
    with serving(lambda *_: chat("abcdef", usage=None)) as server:
        (reply,) = Client(settings(server), cache).ask(ask(1))
    assert reply == Reply("abcdef", Tokens(7, 2))


def test_estimated_tokens() -> None:
    assert estimated_tokens("abcdefg") == 3  # 7 / 3
    assert estimated_tokens("检索 bm25") == 2 + 1 + 2  # two characters; 3 / 3; two digits


def test_money_needs_prices() -> None:
    with pytest.raises(ValueError, match="max_cost needs input_price and output_price"):
        LLMConfig(max_cost=1.0)
    assert Ledger().cost(Tokens(5, 5)) is None


def test_the_account_of_a_part_and_of_several() -> None:
    """At 2 and 4 per million: 100 + 50 tokens cost 400 millionths, 30 + 15 cost 120, 7 + 3 of before 26."""
    ledger = Ledger(input_price=2.0, output_price=4.0)
    ledger.settle(Tokens(0, 0), Tokens(100, 50))
    before = ledger.usage
    ledger.settle(Tokens(0, 0), Tokens(30, 15))
    ledger.note_kept(Tokens(7, 3))
    account = ledger.account(since=before)
    assert account == {
        "calls": 1,
        "input_tokens": 30,
        "output_tokens": 15,
        "cost": pytest.approx(120e-6),
        "calls_kept_from_before": 1,
        "tokens_kept_from_before": 10,
        "cost_before": pytest.approx(26e-6),
    }
    whole = total_account([account, account])
    assert (whole["calls"], whole["input_tokens"], whole["cost"]) == (2, 60, pytest.approx(240e-6))
    assert total_account([account, {**account, "cost": None}])["cost"] is None
