"""What a language model is asked and what it replies, and the seam to whatever answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from bessemer.llm.ledger import Tokens


@dataclass(frozen=True)
class Request:
    """One call. ``max_tokens`` bounds the answer."""

    system: str
    user: str
    max_tokens: int
    temperature: float = 0.0

    def key(self, model: str) -> str:
        """The same for the same model, prompt and parameters."""
        identity = json.dumps({"model": model, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What came back. ``refused`` says why the service will not answer this request, however often it is asked.

    ``is_whole`` is False where the answer ended because ``max_tokens`` were reached.
    """

    text: str
    tokens: Tokens
    is_whole: bool = True
    refused: str = ""


class LLM(Protocol):
    """Answers requests, in their order."""

    @property
    def fingerprint(self) -> str:
        """What the answers depend on besides the requests."""

    def ask(self, requests: Sequence[Request], *, deadline: float | None = None) -> list[Reply]:
        """``deadline``: seconds for all together; after them ServiceError."""
