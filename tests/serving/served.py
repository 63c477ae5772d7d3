"""A service on a real socket, and what slows it down where a test wants to look."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bessemer.config import ServeConfig
from bessemer.encoders.encoder import Encoded
from bessemer.serving.keys import Keys
from bessemer.serving.server import server_of
from bessemer.serving.service import Served, Service

DOCUMENTS = {
    "pump.md": "# Pump\n\nThe pump may start twelve times an hour. Above that, the controller locks the motor.\n",
    "codes.md": "# Codes\n\nCode E17 on the display means that the motor is locked until the pump has cooled down.\n",
    "filter.md": "# Filter\n\nRinse the filter with clear water every month and let it dry before it goes back.\n",
    "中文.md": "# 过滤器\n\n每个月用清水冲洗过滤器，晾干以后再装回去，不要使用热水。\n",
}


def write_documents(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@contextmanager
def running(served: Served, keys: Sequence[str] = (), **settings: Any) -> Iterator[httpx.Client]:
    """A client of the service. ``settings`` are those of the section `serve`."""
    service = Service(served, ServeConfig(**settings))
    service.warm_up()
    server = server_of(service, Keys(keys) if keys else None)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # as `run` has it
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    assert server.started
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        service.close()


class Gated:
    """A real encoder that waits before each encoding until the gate is open, and remembers what it was given."""

    def __init__(self, encoder: Any) -> None:
        self._inner = encoder
        self.gate = threading.Event()
        self.gate.set()
        self.turns: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._waited(self._inner.encode_queries, texts)

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        return self._waited(self._inner.encode_passages, texts)

    def _waited(self, encode: Any, texts: Sequence[str]) -> Encoded:
        self.turns.append(list(texts))
        assert self.gate.wait(30)
        return encode(texts)


def soon(condition: Any) -> None:
    """Wait until ``condition()`` holds."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


def waiting(client: httpx.Client) -> int:
    """Requests in the queue, as /metrics tells."""
    lines = client.get("/metrics").text.splitlines()
    return int(float(next(line.split()[-1] for line in lines if line.startswith("bessemer_queue_requests "))))


def error_of(response: httpx.Response) -> dict[str, str]:
    """The error, of which every answer above 399 has the same shape."""
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "code"}
    error: dict[str, str] = body["error"]
    return error
