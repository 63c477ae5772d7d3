"""One JSON line per request: what it was and how it went; never a text of it, a key or a query string."""

from __future__ import annotations

import json
import logging
import secrets
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bessemer.serving.refusal import unforeseen

logger = logging.getLogger("bessemer.serve")

CLIENT_GONE = 499
"""The status of a request that nobody waits for any more, as nginx writes it."""


@dataclass
class Facts:
    """What a request is found to be on its way."""

    request_id: str
    method: str
    path: str
    status: int = 0
    seconds: float = 0.0
    items: int = 0
    tokens: int = 0
    truncated: int = 0
    is_cancelled: bool = False

    def line(self) -> str:
        told = {"id": self.request_id, "method": self.method, "path": self.path, "status": self.status}
        told |= {"seconds": round(self.seconds, 4), "items": self.items, "tokens": self.tokens}
        return json.dumps({**told, "truncated": self.truncated})


def facts_of(scope: Scope) -> Facts:
    facts: Facts = scope["bessemer"]
    return facts


class Logged:
    """ASGI, the outermost: names the request, tells of its end, and answers 500 for what nobody foresaw."""

    def __init__(self, app: ASGIApp, paths: Collection[str], watch: Callable[[Facts], None]) -> None:
        """``paths`` are logged by name, any other as `other`: it may hold whatever a client wrote into it."""
        self._app, self._paths, self._watch = app, frozenset(paths), watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        facts = scope["bessemer"] = Facts(secrets.token_hex(8), scope["method"], path)
        started = time.perf_counter()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts.status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", facts.request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception as error:
            logger.error(json.dumps({"id": facts.request_id, "error": type(error).__name__, "at": _place(error)}))
            if not facts.status:
                await unforeseen().response()(scope, receive, named)
        finally:
            facts.seconds = time.perf_counter() - started
            if facts.is_cancelled:
                facts.status = CLIENT_GONE
            self._watch(facts)
            logger.info(facts.line())


def _place(error: BaseException) -> list[Any]:
    """File, line and function of the last calls, without the message, which may hold a text."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
