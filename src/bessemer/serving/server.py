"""The service on a socket: uvicorn, with patience for headers, and an end that drops nobody."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bessemer.errors import ConfigError
from bessemer.serving.app import create_app
from bessemer.serving.keys import Keys
from bessemer.serving.service import Service

DRAIN_SECONDS = 5.0
"""Beyond the time that a request may take."""


class Server(uvicorn.Server):
    """SIGTERM and SIGINT end it in order: nothing new is taken, what is in flight is answered, and then it returns.
    ``on_start`` is called once requests are taken."""

    on_start: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.on_start:
            self.on_start()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def server_of(service: Service, keys: Keys | None) -> Server:
    """Ready to ``run``."""
    config = service.config
    seconds = config.read_seconds

    class Patient(_TimedHeaders):
        header_seconds = seconds

    return Server(
        uvicorn.Config(
            create_app(service, keys),
            host=config.host,
            port=config.port,
            http=Patient,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(config.request_seconds + DRAIN_SECONDS),
        )
    )


def run(service: Service, keys: Keys | None, on_start: Callable[[str, int], None]) -> None:
    """Serve until a signal; ``on_start`` is told host and port. Raises ConfigError where they cannot be had, and what
    the first encoding and the first searches raise."""
    config = service.config
    try:
        listening = _listening(config.host, config.port)
    except OSError as error:
        told = f"--host {config.host} --port {config.port}: cannot be listened on ({error.strerror})"
        raise ConfigError(f"{told}; choose another") from None
    with closing(service), closing(listening):
        service.warm_up()
        server = server_of(service, keys)
        host, port = listening.getsockname()[:2]
        server.on_start = lambda: on_start(host, port)
        server.run([listening])


def _listening(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)  # asyncio turns delays off for what is said to be TCP alone
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(address)
    return listening


class _TimedHeaders(H11Protocol):
    """Closes connections whose headers do not come: uvicorn itself waits for them for ever."""

    header_seconds = 15.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE:
            if self._timer is None:
                self._wait_for_headers()
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _wait_for_headers(self) -> None:
        self._timer = self.loop.call_later(self.header_seconds, self.transport.close)
