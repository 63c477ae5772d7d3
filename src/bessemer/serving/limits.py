"""How much a client may send, how long it may take to, and how long it may wait; and when it has gone."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bessemer.serving.logs import facts_of
from bessemer.serving.refusal import Refusal

DISCARD_SECONDS, DISCARD_BYTES = 1.0, 64 << 20
"""Of a body that is too large, read so that the client, which is still sending, sees the answer."""


class Limited:
    """ASGI: reads a body up to a size and within a time, then gives the app its, as long as the client is there."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, read_seconds: float, request_seconds: float) -> None:
        self._app = app
        self._max_body_bytes, self._read_seconds, self._request_seconds = max_body_bytes, read_seconds, request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._body(scope, receive)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
            return
        if body is None:
            facts_of(scope).is_cancelled = True
            return
        await self._answered(scope, body, receive, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """None where the client went away."""
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and len(declared) < 20 and int(declared) > self._max_body_bytes:
            raise await self._too_large(receive)
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._read_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > self._max_body_bytes:
                        raise await self._too_large(receive)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            told = f"the body did not arrive within {self._read_seconds:g} s"
            raise Refusal(408, told, "slow_body", {"Connection": "close"}) from None

    async def _too_large(self, receive: Receive) -> Refusal:
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while size < DISCARD_BYTES:
                    message = await receive()
                    size += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        break
        told = f"the body is larger than {self._max_body_bytes} bytes; send fewer texts at once"
        return Refusal(413, told, "body_too_large", {"Connection": "close"})

    async def _answered(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        work = asyncio.ensure_future(self._app(scope, _replay(body, receive), answer.send))
        gone = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, timeout=self._request_seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or answer.is_complete:
                await work
                return
            work.cancel()
            await asyncio.wait({work})
            if gone.done():
                facts_of(scope).is_cancelled = True
            elif not answer.is_begun:
                told = f"no answer within {self._request_seconds:g} s; send fewer texts at once, or later"
                await Refusal(504, told, "timeout").response()(scope, receive, send)
        finally:
            work.cancel()
            gone.cancel()


class _Answer:
    """Sends, and knows how far it is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_begun = self.is_complete = False

    async def send(self, message: Message) -> None:
        self.is_begun = True
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_complete = True
        await self._send(message)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives ``body`` once."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
