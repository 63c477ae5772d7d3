"""An endpoint that serves a real small model over HTTP gives the likelihoods of the same model here."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from bessemer.config import LLMConfig
from bessemer.errors import BudgetError, ConfigError, ServiceError
from bessemer.llm.completions import PROBE, CompletionsModel
from bessemer.llm.ledger import Ledger, Tokens, Usage
from bessemer.llm.likelihood import Completion, Likelihood
from bessemer.llm.local import load_causal_lm
from bessemer.llm.templates import template_of
from scripted_llm import Answer, Scripted, fault, serving
from tiny_llm import save_causal_lm, word_pieces

COMPLETIONS = [
    template_of("qa").fill(passage, query, answer)
    for passage in ("The blast furnace makes iron from ore.", "转炉 makes steel.")
    for query, answer in (("What does the converter make?", "steel"), ("Who blew air?", "Bessemer, in a 转炉."))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal_lm(tmp_path_factory.mktemp("llm") / "llama")


class Served:
    """What a server with this model would answer."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = word_pieces()
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()

    @torch.inference_mode()
    def tokens(self, prompt: str) -> list[tuple[int, str, float | None]]:
        """(id, text, log P) of the prompt's tokens; a byte of a split character shows as a replacement character."""
        ids = self.tokenizer.encode(prompt).ids
        values = self.model(torch.tensor([ids])).logits[0].double().log_softmax(1)
        texts = [self.tokenizer.decode([i], skip_special_tokens=False) for i in ids]
        return [
            (i, t, float(values[at - 1, i]) if at else None) for at, (i, t) in enumerate(zip(ids, texts, strict=True))
        ]

    def echo(self, request: dict[str, Any], _: int = 0) -> Answer:
        if not request.get("echo"):
            return fault(400, "no echo, no service")
        rows = [*self.tokens(request["prompt"]), (0, " more", -0.5)]
        offsets = [sum(len(text) for _, text, _ in rows[:at]) for at in range(len(rows))]
        told = {"tokens": [t for _, t, _ in rows], "token_logprobs": [v for _, _, v in rows], "text_offset": offsets}
        usage = {"prompt_tokens": len(rows) - 1, "completion_tokens": 1}
        return Answer({"choices": [{"text": request["prompt"] + " more", "logprobs": told}], "usage": usage})

    def prompt_logprobs(self, request: dict[str, Any], _: int = 0) -> Answer:
        choice: dict[str, Any] = {"text": " more", "logprobs": None}
        if "prompt_logprobs" in request:
            rows = self.tokens(request["prompt"])
            choice["prompt_logprobs"] = [
                None if value is None else {str(i): {"logprob": value, "rank": 1, "decoded_token": text}}
                for i, text, value in rows
            ]
        return Answer({"choices": [choice]})


@pytest.fixture(scope="module")
def served(folder: Path) -> Served:
    return Served(folder)


def endpoint(server: Scripted, **given: Any) -> CompletionsModel:
    return CompletionsModel(LLMConfig(**{"url": server.url, "model": "m", "max_retries": 2, "timeout": 5, **given}))


def scored(model: Any, completions: list[Completion]) -> list[Likelihood]:
    found = dict(model.log_likelihoods(completions))
    return [found[place] for place in range(len(completions))]


@pytest.mark.parametrize("dialect", ["echo", "prompt_logprobs"])
def test_the_endpoint_and_the_same_model_here_agree(dialect: str, folder: Path, served: Served) -> None:
    script: Callable[..., Answer] = getattr(served, dialect)
    with serving(script) as server:
        model = endpoint(server, concurrency=3)
        remote = scored(model, COMPLETIONS)
        assert server.most_at_once <= 3
        n_probes = 1 if dialect == "echo" else 2
        assert len(server.requests) == n_probes + len(COMPLETIONS)
        assert {request["max_tokens"] for request in server.requests} == {1}
        scored(model, COMPLETIONS[:1])  # the dialect is known by now
        assert len(server.requests) == n_probes + len(COMPLETIONS) + 1
    for here, there in zip(scored(load_causal_lm(str(folder)), COMPLETIONS), remote, strict=True):
        assert there == Likelihood(pytest.approx(here.mean, abs=1e-4), here.n_tokens)


def test_an_endpoint_that_tells_nothing_of_the_prompt_is_refused(served: Served) -> None:
    def answers_only(request: dict[str, Any], _: int) -> Answer:
        told = {"tokens": [" more"], "token_logprobs": [-1.0], "text_offset": [0]}
        return Answer({"choices": [{"text": " more", "logprobs": told}], "usage": {"completion_tokens": 1}})

    for script in (answers_only, lambda *_: fault(400, "unknown argument"), lambda *_: Answer({"choices": []})):
        with (
            serving(script) as server,
            pytest.raises(ServiceError, match=r"serve the model with vLLM, or give --teach"),
        ):
            scored(endpoint(server), COMPLETIONS)


def test_a_server_that_stumbles_is_asked_again(served: Served) -> None:
    def stumbling(request: dict[str, Any], number: int) -> Answer:
        return fault(500, retry_after_ms="1") if number % 2 == 0 else served.echo(request)

    with serving(stumbling) as server:
        found = scored(endpoint(server, concurrency=1), COMPLETIONS)
        assert not any(likelihood.fault for likelihood in found)
        assert len(server.requests) == 2 * (len(COMPLETIONS) + 1)


def test_a_server_that_fails_stops_the_run_and_what_came_before_is_given_out(served: Served) -> None:
    def failing(request: dict[str, Any], number: int) -> Answer:
        return served.echo(request) if number < 3 else fault(500, "out of memory", retry_after_ms="1")

    found = []
    with (
        serving(failing) as server,
        pytest.raises(ServiceError, match=r"500 .*out of memory.*run the same command again"),
    ):
        found += endpoint(server, concurrency=1).log_likelihoods(COMPLETIONS)  # extends by what comes before the error
    with serving(failing) as server:
        results: Iterator[Any] = endpoint(server, concurrency=1).log_likelihoods(COMPLETIONS)
        assert [next(results)[0], next(results)[0]] == [0, 1]
        with pytest.raises(ServiceError):
            next(results)


def interrupting(request: dict[str, Any], number: int) -> Answer:
    """What Ctrl-C does, once the client waits for the answer."""
    time.sleep(0.2)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    return Answer({"choices": []}, seconds=1.0)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Whatever starts the tests in the background may have SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interruption_leaves_nothing_open() -> None:
    with serving(interrupting) as server:
        model = endpoint(server)
        with pytest.raises(KeyboardInterrupt):
            list(model.log_likelihoods(COMPLETIONS))
    assert model.ledger.reserve(Tokens(0, 0))
    assert model.ledger.usage.n_calls == 1  # it may be charged


def test_within_a_running_loop(served: Served) -> None:
    async def cell_of_a_notebook(model: CompletionsModel) -> list[Likelihood]:
        return scored(model, COMPLETIONS)

    with serving(served.echo) as server:
        found = asyncio.run(cell_of_a_notebook(endpoint(server)))
    assert not any(likelihood.fault for likelihood in found)


def test_a_text_that_is_refused_is_a_fault_of_its_own(served: Served) -> None:
    def short_of_context(request: dict[str, Any], number: int) -> Answer:
        return fault(400, "maximum context length is 16") if "转炉" in request["prompt"] else served.echo(request)

    with serving(short_of_context) as server:
        found = scored(endpoint(server), COMPLETIONS)
    assert [bool(likelihood.fault) for likelihood in found] == [False, True, True, True]
    assert found[1].fault == "the endpoint refuses the text: 400 maximum context length is 16"


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "set BESSEMER_LLM_API_KEY or OPENAI_API_KEY in the environment"), (404, "check --llm and --llm-model")],
)
def test_what_is_wrong_with_all_calls_is_said_with_the_fix(status: int, words: str) -> None:
    with serving(lambda *_: fault(status)) as server, pytest.raises(ServiceError, match=words):
        scored(endpoint(server), COMPLETIONS)


def test_the_key_is_sent_and_never_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESSEMER_LLM_API_KEY", "sk-secret")
    with serving(lambda *_: fault(401, "wrong key sk-secret")) as server, pytest.raises(ServiceError) as caught:
        scored(endpoint(server), COMPLETIONS)
    assert server.headers[0]["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in str(caught.value)


def test_the_budget_is_never_passed(served: Served) -> None:
    with serving(served.echo) as server:
        model = endpoint(server, concurrency=1, max_tokens=120)
        with pytest.raises(BudgetError, match="--max-tokens 120"):
            scored(model, COMPLETIONS)
        assert 0 < model.ledger.usage.spent.total <= 120
        assert 2 <= len(server.requests) < 1 + len(COMPLETIONS)


def test_a_budget_is_shared_with_whoever_spends_from_it_too(served: Served) -> None:
    ledger = Ledger(max_tokens=1_000)
    with serving(served.echo) as server:
        config = LLMConfig(url=server.url, model="m")
        scored(CompletionsModel(config, ledger), COMPLETIONS[:1])
        n_probed_and_asked = 2
        assert ledger.usage.n_calls == n_probed_and_asked
        ledger.settle(Tokens(0, 0), Tokens(1_000, 0))  # somebody else's
        with pytest.raises(BudgetError, match="--max-tokens 1,000"):
            scored(CompletionsModel(config, ledger), COMPLETIONS[:1])
        assert len(server.requests) == n_probed_and_asked


@pytest.mark.parametrize("broken", [Answer(b"<html>busy</html>"), Answer({"choices": []}, cut=5)], ids=["HTML", "cut"])
def test_a_broken_answer_is_asked_for_again_and_counted(broken: Answer, served: Served) -> None:
    """The probe of 20 ASCII characters is 7 tokens and one more at worst; then it takes what the server counts."""

    def script(request: dict[str, Any], number: int) -> Answer:
        return broken if number == 0 else served.echo(request)

    with serving(script) as server:
        model = endpoint(server)
        scored(model, [])
        assert len(server.requests) == 2
    n_counted = len(served.tokens(PROBE.text))
    assert len(PROBE.text) == 20
    assert model.ledger.usage == Usage(2, Tokens(7 + n_counted, 1 + 1))


def test_no_server_no_url() -> None:
    with pytest.raises(ConfigError, match="give a URL"):
        CompletionsModel(LLMConfig(url="localhost:1/v1"))
    model = CompletionsModel(LLMConfig(url="http://127.0.0.1:9/v1", model="m", max_retries=0))
    with pytest.raises(ServiceError, match="run the same command again"):
        scored(model, COMPLETIONS)
