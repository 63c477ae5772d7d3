"""Calls to any OpenAI-compatible endpoint: many at once, retried, kept on disk, within a budget."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bessemer.config import LLMConfig
from bessemer.errors import BessemerError, BudgetError
from bessemer.llm.endpoint import ABOUT_THIS_REQUEST, BrokenAnswer, Endpoint, tokens_taken
from bessemer.llm.ledger import Ledger, Tokens, estimated_tokens
from bessemer.llm.loops import run_to_end
from bessemer.llm.request import Reply, Request
from bessemer.llm.request_cache import RequestCache
from bessemer.text import whole_characters

logger = logging.getLogger("bessemer")

IN_A_ROW = 5
"""Failed calls with none between them that succeeded, or calls refused in the same words before any that succeeded,
after which the rest is not tried."""
LOG_SECONDS = 5.0
SECONDS_PER_CALL = 2.0
"""A guess, until calls have been made and timed."""

_THOUGHTS = re.compile(r"\A(?:(?!<think>).)*?</think>|<think>.*?(?:</think>|\Z)", re.DOTALL)
"""What reasoning models write before they answer. Some have its first mark in their template, not in the reply."""


@dataclass
class _Known:
    """What this run has seen of a model. ``untaken``: parameters that it does not take; ``n_refused``: how often the
    last refusal was given without another between."""

    untaken: set[str] = field(default_factory=set)
    has_answered: bool = False
    last_refusal: str = ""
    n_refused: int = 0


class Client:
    """Asks ``config.model`` at ``config.url``. Raises ConfigError without a URL, or without the `openai` package."""

    def __init__(self, config: LLMConfig, cache: RequestCache) -> None:
        self._config = config
        self._cache = cache
        self.ledger = Ledger.of(config)
        self._endpoint = Endpoint(config, self.ledger)
        self.model = self._endpoint.model
        self._counted: set[str] = set()  # what this run paid for is not kept from before
        self._failed = self._failed_in_a_row = 0
        self._last_fault = ""
        self._known: defaultdict[str, _Known] = defaultdict(_Known)  # by model: clients of several share it

    @property
    def fingerprint(self) -> str:
        """What its answers depend on besides the requests."""
        return f"llm {self.model}"

    def with_model(self, model: str) -> Client:
        """A client of ``model`` at the same endpoint, with the same cache and on the same budget."""
        client = copy(self)
        client.model = model
        return client

    def ask(self, requests: Sequence[Request], *, deadline: float | None = None) -> list[Reply]:
        """The replies in the order of the requests; each is kept as soon as it is there.

        Answers that are kept already are not asked for. Raises BudgetError before the send that might pass the budget,
        ServiceError when calls still fail after retries; either way what came back is kept, and the same call again
        asks for the rest alone. ``deadline``: seconds for all together, for those who wait at a screen; after them
        ServiceError.
        """
        keys = [request.key(self.model) for request in requests]
        by_key = dict(zip(keys, requests, strict=True))  # the same request twice is one call
        found = {key: reply for key, request in by_key.items() if (reply := self.kept(request))}
        for key in found.keys() - self._counted:
            self.ledger.note_kept(found[key].tokens)
        self._counted |= by_key.keys()
        self._known[self.model].has_answered |= bool(found)
        left = {key: request for key, request in by_key.items() if key not in found}
        if left:
            found |= run_to_end(self._in_time(left, deadline))
        return [found[key] for key in keys]

    def kept(self, request: Request) -> Reply | None:
        """The answer of an earlier call."""
        return self._cache.get(request.key(self.model))

    def estimate(self, requests: Sequence[Request]) -> dict[str, Any]:
        """What ``requests``, a call each, would take at most: calls, tokens, cost (None without prices) and seconds, by
        the calls made so far or, ``seconds_guessed``, by SECONDS_PER_CALL.

        Requests in the same words count each: stand-ins for what will be asked may look alike.
        """
        unasked = [request for request in requests if self.kept(request) is None]
        tokens = Tokens(0, 0)
        for request in unasked:
            tokens += worst_case(request)
        each = self._cache.seconds_per_call()
        return {
            "calls": len(unasked),
            "calls_kept": len(requests) - len(unasked),
            "input_tokens": tokens.input,
            "output_tokens": tokens.output,
            "cost": self.ledger.cost(tokens),
            "seconds": (SECONDS_PER_CALL if each is None else each) * len(unasked) / self._config.concurrency,
            "seconds_guessed": each is None,
        }

    async def _in_time(self, requests: dict[str, Request], deadline: float | None) -> dict[str, Reply]:
        try:
            return await asyncio.wait_for(self._ask_all(requests), deadline)
        except TimeoutError:
            raise self._endpoint.fault(f"no answer within {deadline:g} s") from None

    async def _ask_all(self, requests: dict[str, Request]) -> dict[str, Reply]:
        replies: dict[str, Reply] = {}
        left = iter(requests.items())
        stop: list[BessemerError] = []
        progress = _Progress(len(requests), self.ledger)
        self._failed = self._failed_in_a_row = 0

        async def work(service: Any) -> None:
            for key, request in left:  # one iterator for all: each takes what comes next
                if stop:
                    return
                try:
                    reply = await self._ask_one(service, request)
                except BessemerError as error:  # the others finish what they have begun: it is paid for
                    stop.append(error)
                    return
                if reply is not None:
                    replies[key] = reply
                progress.update()

        async with self._endpoint.open() as service:
            await asyncio.gather(*(work(service) for _ in range(min(self._config.concurrency, len(requests)))))
        if stop:
            raise self.ledger.stopped(stop[0]) if isinstance(stop[0], BudgetError) else stop[0]
        if self._failed:
            raise self._endpoint.fault(
                f"{self._failed} of {len(requests)} calls failed, the last with {self._last_fault}; the "
                "other answers are kept: run the same command again"
            )
        return replies

    async def _ask_one(self, service: Any, request: Request) -> Reply | None:
        """None where the call failed in the end, which is counted."""
        import openai

        parameters = self._parameters(request)
        call = partial(
            service.chat.completions.with_streaming_response.create,
            model=self.model,
            messages=[{"role": "system", "content": request.system}, {"role": "user", "content": request.user}],
            **parameters,
        )
        started = time.monotonic()
        try:
            reply = await self._endpoint.answer(call, worst_case(request), partial(_counted, request))
        except openai.APIStatusError as error:
            if self._can_do_without(error, parameters):
                return await self._ask_one(service, request)
            return self._refused(error)
        except (openai.APIError, BrokenAnswer) as error:
            self._note_failure(str(error) or type(error).__name__)
            return None
        self._failed_in_a_row = 0
        self._known[self.model].has_answered = True
        self._cache.put(request.key(self.model), reply, time.monotonic() - started)
        return reply

    def _parameters(self, request: Request) -> dict[str, Any]:
        """As the model takes them: newer ones call the limit otherwise, or have one temperature alone."""
        untaken = self._known[self.model].untaken
        limit = "max_completion_tokens" if "max_tokens" in untaken else "max_tokens"
        temperature = {} if "temperature" in untaken else {"temperature": request.temperature}
        return {limit: request.max_tokens, **temperature}

    def _can_do_without(self, error: Any, sent: Mapping[str, Any]) -> bool:
        """Whether the model refuses one of the parameters ``sent`` that `_parameters` can put otherwise: from now on it
        does."""
        name, untaken = error.param, self._known[self.model].untaken
        if name not in ("max_tokens", "temperature") or name not in sent:
            return False
        if not str(error.code).startswith("unsupported"):
            return False
        if name not in untaken:  # else another call, sent at the same time, was told before
            untaken.add(name)
            logger.info("language model: %s is asked without %s: %s", self.model, name, self._endpoint.said(error))
        return True

    def _refused(self, error: Any) -> Reply | None:
        said = self._endpoint.said(error)
        if error.status_code in ABOUT_THIS_REQUEST:
            self._note_refusal(said)
            return Reply("", Tokens(0, 0), refused=said)
        fault = self._endpoint.fault_of_all(error)
        if fault:
            raise fault
        self._note_failure(said)
        return None

    def _note_refusal(self, said: str) -> None:
        """Raises ServiceError where it is about all requests, by all that can be told."""
        known = self._known[self.model]
        known.n_refused = known.n_refused + 1 if said == known.last_refusal else 1
        known.last_refusal = said
        if known.n_refused >= IN_A_ROW and not known.has_answered:
            raise self._endpoint.fault(f"{IN_A_ROW} calls in a row were refused alike, and none answered: {said}")

    def _note_failure(self, fault: str) -> None:
        self._failed += 1
        self._failed_in_a_row += 1
        self._last_fault = self._endpoint.without_key(fault)
        if self._failed_in_a_row >= IN_A_ROW:
            raise self._endpoint.fault(
                f"{IN_A_ROW} calls in a row failed, the last with {self._last_fault}; all answers so far "
                "are kept: run the same command again when the service is back"
            )


def worst_case(request: Request) -> Tokens:
    """Tokens that a call takes at most, but for a tokenizer much poorer than usual."""
    return Tokens(estimated_tokens(request.system) + estimated_tokens(request.user), request.max_tokens)


def read_reply(body: bytes, request: Request) -> Reply:
    """The answer in a chat completion's JSON; what the service does not count is estimated. Where it has no content and
    tells why it ended (a filter, thoughts that took all tokens), it is the refusal, if any. Raises BrokenAnswer."""
    data = None
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
        text = message["content"]
        if text is None and isinstance(ended, str):
            text = message.get("refusal") or ""
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise BrokenAnswer("an answer that is no chat completion", tokens_taken(data, worst_case(request))) from None
    is_whole = ended != "length"
    taken = Tokens(worst_case(request).input, estimated_tokens(text) if is_whole else request.max_tokens)
    return Reply(whole_characters(_THOUGHTS.sub("", text).strip()), tokens_taken(data, taken), is_whole)


def _counted(request: Request, body: bytes) -> tuple[Reply, Tokens]:
    reply = read_reply(body, request)
    return reply, reply.tokens


class _Progress:
    """Says how far it is, every few seconds."""

    def __init__(self, n: int, ledger: Ledger) -> None:
        self._n, self._ledger = n, ledger
        self._done = 0
        self._start = self._last = time.monotonic()

    def update(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._last < LOG_SECONDS or self._done >= self._n:
            return
        self._last = now
        left = (now - self._start) / self._done * (self._n - self._done)
        spent = self._ledger.spent_in_words(2)
        logger.info("language model: %d of %d calls, %s, %.0f s left", self._done, self._n, spent, left)
