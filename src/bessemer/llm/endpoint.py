"""An OpenAI-compatible endpoint: where it is, how it is asked within a budget, what its errors and counts mean."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from bessemer.config import LLMConfig
from bessemer.errors import ConfigError, ServiceError
from bessemer.llm.ledger import Ledger, Tokens
from bessemer.text import whole_characters

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger("bessemer")

T = TypeVar("T")
Call = Callable[[], AbstractAsyncContextManager[Any]]
"""Opens one send: `openai`'s ``with_streaming_response.create`` with its arguments."""
Read = Callable[[bytes], tuple[T, Tokens]]
"""What stands in the body of a reply, and what it took. Raises BrokenAnswer."""

KEY_VARIABLES = ("BESSEMER_LLM_API_KEY", "OPENAI_API_KEY")
NO_KEY = "none"
"""What servers of one's own are sent: they ask for no key, and the library insists on one."""
ANY_MODEL = "default"
"""For servers that hold one model and do not ask for its name."""
LISTING_SECONDS = 5.0
UNTIL_SETTLED = 0.02
"""Seconds between two looks at the budget."""
MAX_BYTES = 16 << 20
"""Of one answer: a broken server could send without end. A long prompt with its log-probabilities takes a few MiB."""
BROKEN_ANSWERS = 3
"""How often a request is sent whose answer was cut, or was no answer."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before a call is sent again, doubled each time."""
LONGEST_ASKED_PAUSE = 120.0
"""A service that asks for a longer one is not asked again."""
ABOUT_THIS_REQUEST = (400, 413, 422)
"""Statuses by which a server refuses one request: too long, most often. 401, 403 and 404 are about all of them."""


class BrokenAnswer(Exception):
    """An answer that is none. ``took``: what it took all the same; None where it does not say."""

    def __init__(self, fault: str, took: Tokens | None = None) -> None:
        super().__init__(fault)
        self.took = took


class Endpoint:
    """``url``, completed by /v1 where it is a bare host, and ``model``: the one that is named, else the first that the
    service lists, or else ANY_MODEL. Whatever is sent goes through ``ledger``. Raises ConfigError without a URL, or
    without the `openai` package."""

    def __init__(self, config: LLMConfig, ledger: Ledger) -> None:
        self.ledger = ledger
        self._timeout, self._max_retries = config.timeout, config.max_retries
        self.url = _checked_url(config.url)
        self._key = _key()
        self.model = config.model or self._first_listed()

    def open(self) -> AsyncOpenAI:
        """A connection. Its library sends nothing again by itself: the ledger would not know."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(api_key=self._key, base_url=self.url, timeout=self._timeout, max_retries=0)

    async def answer(self, call: Call, worst: Tokens, read: Read[T]) -> T:
        """What ``read`` makes of the reply to ``call``, which takes ``worst`` at most each time that it is sent: again
        after an answer that was none, and after 429, 5xx or a time-out.

        Raises BudgetError before the send that might pass the budget; BrokenAnswer or an `openai.APIError`, the last
        one, when it fails in the end.
        """
        for _ in range(BROKEN_ANSWERS - 1):
            with suppress(BrokenAnswer):
                return await self._patient(call, worst, read)
        return await self._patient(call, worst, read)

    async def _patient(self, call: Call, worst: Tokens, read: Read[T]) -> T:
        import openai

        for n_sent in range(self._max_retries):
            try:
                return await self._sent(call, worst, read)
            except openai.APIError as error:
                pause = _pause(error, n_sent)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
        return await self._sent(call, worst, read)

    async def _sent(self, call: Call, worst: Tokens, read: Read[T]) -> T:
        """One send, reserved before and counted after it. Who is refused, or reaches nobody, owes nothing. An answer
        that was cut, came too late or cannot be read may be charged all the same, and counts at its worst."""
        import openai

        took: Tokens | None = worst
        while not self.ledger.reserve(worst):
            await asyncio.sleep(UNTIL_SETTLED)  # for those in flight to give back what they did not take
        try:
            found, took = read(await _body(call))
        except openai.APIError as error:
            took = None if isinstance(error, openai.APIStatusError) or _reached_nobody(error) else worst
            raise
        except BrokenAnswer as error:
            took = error.took or worst
            raise
        finally:
            self.ledger.settle(worst, took)
        return found

    def said(self, error: Any) -> str:
        """Status and message of an `openai.APIStatusError`, in one line and without the key."""
        body = error.body if isinstance(error.body, dict) else {}
        message = " ".join(whole_characters(str(body.get("message") or error.message)).split())
        return self.without_key(f"{error.status_code} {message[:300]}")

    def fault(self, text: str) -> ServiceError:
        return ServiceError(f"{self.url}: {self.without_key(text)}")

    def fault_of_all(self, error: Any) -> ServiceError | None:
        """What to tell where every other call would fail alike."""
        hints = dict.fromkeys((401, 403), f"set {' or '.join(KEY_VARIABLES)} in the environment")
        hint = (hints | {404: "check --llm and --llm-model"}).get(error.status_code)
        return self.fault(f"{self.said(error)}; {hint}") if hint else None

    def without_key(self, text: str) -> str:
        return text.replace(self._key, "(key)") if self._key != NO_KEY else text

    def _first_listed(self) -> str:
        from openai import OpenAI, OpenAIError

        try:
            with OpenAI(api_key=self._key, base_url=self.url, timeout=LISTING_SECONDS, max_retries=0) as service:
                listed = [model.id for model in service.models.list().data or ()]
        except (OpenAIError, ValueError, AttributeError, TypeError):  # not there, or no list: the first call will tell
            listed = []
        name = listed[0] if listed else ANY_MODEL
        logger.info("language model: %s (--llm-model names another)", name)
        return name


def tokens_taken(reply: Any, estimate: Tokens) -> Tokens:
    """As the service counts them in a reply's JSON, else as estimated."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    estimates = (estimate.input, estimate.output)
    return Tokens(*(c if isinstance(c, int) and c >= 0 else e for c, e in zip(counts, estimates, strict=True)))


async def _body(call: Call) -> bytes:
    """Raises BrokenAnswer where it breaks off or does not end, an `openai.APIError` where none begins."""
    body = bytearray()
    async with call() as response:
        try:
            async for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    break
        except Exception as error:  # of the HTTP library below: the connection was cut within the answer
            raise BrokenAnswer(f"an answer that was cut ({type(error).__name__})") from None
    if len(body) > MAX_BYTES:
        raise BrokenAnswer(f"an answer of more than {MAX_BYTES >> 20} MiB")
    return bytes(body)


def _reached_nobody(error: Exception) -> bool:
    """No connection came about. By name: the HTTP library below differs between versions of `openai`."""
    unsent = ("ConnectError", "ConnectTimeout", "LocalProtocolError", "PoolTimeout", "UnsupportedProtocol")
    return type(error.__cause__).__name__ in unsent


def _pause(error: Any, n_before: int) -> float | None:
    """Seconds to wait before a call is sent again that failed ``n_before`` times before; None where it is not to be."""
    response = getattr(error, "response", None)  # none after a time-out or without a connection
    asked = None
    if response is not None:
        advice = response.headers.get("x-should-retry")
        asked = _asked_pause(response.headers)
        may_help = response.status_code in (408, 409, 429) or response.status_code >= 500
        if advice == "false" or not (may_help or advice == "true") or (asked or 0.0) > LONGEST_ASKED_PAUSE:
            return None
    growing = min(FIRST_PAUSE * 2.0**n_before, LONGEST_PAUSE)
    return asked or growing * random.uniform(0.75, 1.0)  # calls that failed together do not come back together


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds that the service asks for; None where it asks for none, or names a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            seconds = float(headers[name]) * unit
            if math.isfinite(seconds) and seconds > 0:
                return seconds
    return None


def _key() -> str:
    """Without the line break that a file of secrets ends with. Raises ConfigError for one that no header can carry."""
    for name in KEY_VARIABLES:
        key = os.environ.get(name, "").strip()
        if key and not (key.isascii() and key.isprintable()):
            raise ConfigError(f"{name}: a key is printable ASCII; look for what else was copied with it")
        if key:
            return key
    return NO_KEY


def _checked_url(url: str | None) -> str:
    if not url:
        raise ConfigError("no language model: give --llm URL of an OpenAI-compatible endpoint (docs/llm.md)")
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        is_whole = False
    if not is_whole:
        raise ConfigError(f"--llm {url}: give a URL such as http://localhost:8000/v1")
    try:
        import openai  # noqa: F401
    except ImportError:
        raise ConfigError("--llm needs the openai package: pip install 'bessemer[llm]'") from None
    return url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
