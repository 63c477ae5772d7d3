"""The service on a socket: uvicorn, with patience for headers, and an end that drops nobody."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bessemer.config import ServeConfig
from bessemer.errors import ConfigError
from bessemer.serving.app import create_app
from bessemer.serving.keys import Keys
from bessemer.serving.service import Service

DRAIN_SECONDS = 5.0
"""Beyond the time that a request may take."""


class Server(uvicorn.Server):
    """SIGTERM and SIGINT end it in order: nothing new is taken, what is in flight is answered, and then it returns."""

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
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(config.request_seconds + DRAIN_SECONDS),
        )
    )


def run(service: Service, keys: Keys | None, started: Any = None) -> None:
    """Serve until a signal; ``started`` is called with (host, port) once requests are taken. Raises ConfigError where
    the address cannot be had."""
    config = service.config
    try:
        sockets = [_listening(config)]
    except OSError as error:
        told = f"--host {config.host} --port {config.port}: cannot be listened on ({error.strerror})"
        raise ConfigError(f"{told}; choose another port") from None
    if started:
        started(*sockets[0].getsockname()[:2])
    server_of(service, keys).run(sockets)


def _listening(config: ServeConfig) -> Any:
    import socket

    (family, kind, *_, address), *_rest = socket.getaddrinfo(
        config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    found = socket.socket(family, kind)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(address)
    return found


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
