"""An OpenAI-compatible endpoint: where it is, what it is called by, and what its errors and counts mean."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bessemer.config import LLMConfig
from bessemer.errors import ConfigError, ServiceError
from bessemer.llm.ledger import Tokens

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger("bessemer")

KEY_VARIABLES = ("BESSEMER_LLM_API_KEY", "OPENAI_API_KEY")
NO_KEY = "none"
"""What servers of one's own are sent: they ask for no key, and the library insists on one."""
ANY_MODEL = "default"
"""For servers that hold one model and do not ask for its name."""
LISTING_SECONDS = 5.0
ABOUT_THIS_REQUEST = (400, 413, 422)
"""Statuses by which a server refuses one request: too long, most often. 401, 403 and 404 are about all of them."""


class Endpoint:
    """``url``, completed by /v1 where it is a bare host, and ``model``: the one that is named, else the first that the
    service lists, or else ANY_MODEL. Raises ConfigError without a URL, or without the `openai` package."""

    def __init__(self, config: LLMConfig) -> None:
        self._options = {"timeout": config.timeout, "max_retries": config.max_retries}
        self.url = _checked_url(config.url)
        self._key = next((key for name in KEY_VARIABLES if (key := os.environ.get(name))), NO_KEY)
        self.model = config.model or self._first_listed()

    def open(self) -> AsyncOpenAI:
        """A connection; its library sends again, with growing pauses, what met 429, 5xx or a time-out."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(api_key=self._key, base_url=self.url, **self._options)  # type: ignore[arg-type]

    def said(self, error: Any) -> str:
        """Status and message of an `openai.APIStatusError`, in one line and without the key."""
        body = error.body if isinstance(error.body, dict) else {}
        message = " ".join(str(body.get("message") or error.message).split())
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
    usage = reply.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    estimates = (estimate.input, estimate.output)
    return Tokens(*(c if isinstance(c, int) and c >= 0 else e for c, e in zip(counts, estimates, strict=True)))


def _checked_url(url: str | None) -> str:
    if not url:
        raise ConfigError("no language model: give --llm URL of an OpenAI-compatible endpoint (docs/llm.md)")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"--llm {url}: give a URL such as http://localhost:8000/v1")
    try:
        import openai  # noqa: F401
    except ImportError:
        raise ConfigError("--llm needs the openai package: pip install 'bessemer[llm]'") from None
    return url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
