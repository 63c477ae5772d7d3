"""Likelihoods from an endpoint's ``/v1/completions``: a prompt that ends with the answer, and log P of its tokens.

Two dialects: ``echo`` with ``logprobs`` (OpenAI's old form: vLLM, llama-cpp-python and others), and vLLM's own
``prompt_logprobs``. The first that a short probe finds working is spoken.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from bessemer.config import LLMConfig
from bessemer.errors import BessemerError, BudgetError, ServiceError
from bessemer.llm.endpoint import ABOUT_THIS_REQUEST, BrokenAnswer, Endpoint, tokens_taken
from bessemer.llm.ledger import Ledger, Tokens, estimated_tokens
from bessemer.llm.likelihood import EMPTY_ANSWER, Completion, Likelihood, no_likelihood
from bessemer.llm.loops import iterated
from bessemer.llm.prompt_tokens import PromptTokens, answer_likelihood, read_echo, read_prompt_logprobs

if TYPE_CHECKING:
    from openai import AsyncOpenAI

PROBE = Completion("", "Ice", " is", " frozen water.")


@dataclass(frozen=True, slots=True)
class Dialect:
    arguments: Mapping[str, Any]
    read: Callable[[Mapping[str, Any]], PromptTokens | None]


DIALECTS = (
    Dialect({"echo": True, "logprobs": 1}, read_echo),
    Dialect({"extra_body": {"prompt_logprobs": 0}}, read_prompt_logprobs),
)


class _Refused(Exception):
    """The endpoint will not read this text."""


class CompletionsModel:
    """``config.model`` at ``config.url``. ``ledger``: that of the run, where others spend from its budget too. Raises
    ConfigError without a URL, or without the `openai` package."""

    def __init__(self, config: LLMConfig, ledger: Ledger | None = None) -> None:
        self._config = config
        self.ledger = ledger or Ledger.of(config)
        self._endpoint = Endpoint(config, self.ledger)
        self._dialect: Dialect | None = None
        self.identity = f"{self._endpoint.url} {self._endpoint.model}"

    def log_likelihoods(self, completions: Sequence[Completion]) -> Iterator[tuple[int, Likelihood]]:
        """(place among ``completions``, likelihood), as replies come in; a text that is refused is a fault.

        Raises ServiceError when a call fails in the end, or when the endpoint tells nothing about a prompt's tokens;
        BudgetError before the call that might pass the budget. What was under way by then is given out first.
        """
        return iterated(self._replies(completions))

    async def _replies(self, completions: Sequence[Completion]) -> AsyncIterator[tuple[int, Likelihood]]:
        left = iter(enumerate(completions))
        running: set[asyncio.Task[tuple[int, Likelihood]]] = set()
        stop: BaseException | None = None
        async with self._endpoint.open() as service:
            self._dialect = self._dialect or await self._spoken(service)
            try:
                while True:
                    room = 0 if stop else self._config.concurrency - len(running)
                    running |= {asyncio.create_task(self._likelihood(service, *item)) for item in islice(left, room)}
                    if not running:
                        break
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        if task.exception():
                            stop = stop or task.exception()
                        else:
                            yield task.result()
            finally:
                for task in running:
                    task.cancel()
        if stop:
            raise self.ledger.stopped(stop) if isinstance(stop, BudgetError) else stop

    async def _spoken(self, service: AsyncOpenAI) -> Dialect:
        for dialect in DIALECTS:
            with suppress(_Refused):
                tokens = dialect.read(await self._sent(service, PROBE, dialect))
                if tokens and not answer_likelihood(tokens, PROBE).fault:
                    return dialect
        raise self._endpoint.fault(
            "tells no log-probabilities of a prompt's tokens, which a teacher needs (neither by `echo` "
            "with `logprobs` nor by vLLM's `prompt_logprobs`); serve the model with vLLM, or give --teacher-model a "
            "folder of it in place of --llm"
        )

    async def _likelihood(self, service: AsyncOpenAI, place: int, completion: Completion) -> tuple[int, Likelihood]:
        assert self._dialect
        if not completion.answer.strip():
            return place, no_likelihood(EMPTY_ANSWER)
        try:
            tokens = self._dialect.read(await self._sent(service, completion, self._dialect))
        except _Refused as error:
            return place, no_likelihood(str(error))
        if tokens is None:
            return place, no_likelihood("the endpoint's reply lacks the tokens of the prompt")
        return place, answer_likelihood(tokens, completion)

    async def _sent(self, service: AsyncOpenAI, completion: Completion, dialect: Dialect) -> Mapping[str, Any]:
        """One call, within the budget: the reply's JSON. Not every server takes ``max_tokens`` 0."""
        import openai

        call = partial(
            service.completions.with_streaming_response.create,
            model=self._endpoint.model,
            prompt=completion.text,
            max_tokens=1,
            temperature=0,
            **dialect.arguments,
        )
        worst = Tokens(estimated_tokens(completion.text), 1)
        try:
            return await self._endpoint.answer(call, worst, partial(_counted, worst))
        except openai.APIStatusError as error:
            raise self._explained(error) from None
        except (openai.APIError, BrokenAnswer) as error:
            raise self._failed(str(error) or type(error).__name__) from None

    def _explained(self, error: Any) -> BessemerError | _Refused:
        said = self._endpoint.said(error)
        if error.status_code in ABOUT_THIS_REQUEST:
            return _Refused(f"the endpoint refuses the text: {said}")
        return self._endpoint.fault_of_all(error) or self._failed(said)

    def _failed(self, said: str) -> ServiceError:
        return self._endpoint.fault(
            f"{said}; all scores so far are kept: run the same command again when the service is back"
        )


def _counted(worst: Tokens, body: bytes) -> tuple[Mapping[str, Any], Tokens]:
    try:
        reply = json.loads(body)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise BrokenAnswer("an answer that is no completion")
    return reply, tokens_taken(reply, worst)
