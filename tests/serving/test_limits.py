from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from served import Gated, error_of, running, soon, waiting

from bessemer.serving.service import Served


def gated(static: Served) -> tuple[Gated, Served]:
    encoder = Gated(static.encoder)
    return encoder, Served("tiny", encoder, ("dense",))  # type: ignore[arg-type]


def ask(client: httpx.Client, text: str, **settings: Any) -> httpx.Response:
    return client.post("/v1/embeddings", json={"input": text}, **settings)


def connected(client: httpx.Client) -> socket.socket:
    found = socket.create_connection((client.base_url.host, client.base_url.port or 0))
    found.settimeout(10)
    return found


def test_a_body_that_is_too_large(static: Served) -> None:
    body = json.dumps({"input": "w1 " * 1_000}).encode()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    json_headers = {"Content-Type": "application/json"}
    with running(static, max_body_bytes=2_000) as client:
        for content in (body, chunks()):  # announced, and without a length
            refused = client.post("/v1/embeddings", content=content, headers=json_headers)
            assert (refused.status_code, error_of(refused)["code"]) == (413, "body_too_large")
            assert "2000 bytes" in error_of(refused)["message"]
        assert ask(client, "w1").status_code == 200


def test_too_many_texts_or_tokens(static: Served) -> None:
    with running(static, max_items=3, max_request_tokens=10) as client:
        many = client.post("/v1/embeddings", json={"input": ["w1"] * 4})
        long = client.post("/v1/embeddings", json={"input": ["w1 w2 w3 w4"] * 3})
        rerank = client.post("/rerank", json={"query": "w1", "passages": ["w1"] * 3})
        assert ask(client, " ".join(["w1"] * 10)).status_code == 200
    for refused, told in ((many, "4 texts"), (long, "12 tokens"), (rerank, "4 texts")):
        assert refused.status_code == 422
        assert told in error_of(refused)["message"]


def test_a_full_queue(static: Served) -> None:
    encoder, served = gated(static)
    with running(served, queue_requests=1) as client, ThreadPoolExecutor(2) as pool:
        encoder.gate.clear()
        first = pool.submit(ask, client, "w1")
        soon(lambda: encoder.turns[-1] == ["w1"])
        second = pool.submit(ask, client, "w2")
        soon(lambda: waiting(client) == 1)
        refused = ask(client, "w3")
        encoder.gate.set()
        assert [first.result().status_code, second.result().status_code] == [200, 200]
    assert (refused.status_code, error_of(refused)["code"]) == (429, "busy")
    assert int(refused.headers["retry-after"]) >= 1


def test_an_answer_that_takes_too_long(static: Served) -> None:
    encoder, served = gated(static)
    with running(served, request_seconds=0.2) as client:
        encoder.gate.clear()
        late = ask(client, "w1")
        encoder.gate.set()
        assert (late.status_code, error_of(late)["code"]) == (504, "timeout")
        assert ask(client, "w1").status_code == 200


def test_a_client_that_goes_away(static: Served, caplog: pytest.LogCaptureFixture) -> None:
    """What it asked for is never computed."""
    encoder, served = gated(static)
    with caplog.at_level(logging.INFO), running(served) as client, ThreadPoolExecutor(1) as pool:
        encoder.gate.clear()
        first = pool.submit(ask, client, "w1")
        soon(lambda: encoder.turns[-1] == ["w1"])
        with pytest.raises(httpx.ReadTimeout):
            ask(client, "w2", timeout=0.2)
        soon(lambda: waiting(client) == 0)
        encoder.gate.set()
        assert first.result().status_code == 200
        assert ask(client, "w3").status_code == 200
        assert "bessemer_cancelled_requests_total 1.0" in client.get("/metrics").text
    assert ["w2"] not in encoder.turns
    assert '"status": 499' in caplog.text


def test_slow_clients(static: Served) -> None:
    half = b'POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"input": '
    with running(static, read_seconds=0.3) as client:
        with connected(client) as body, connected(client) as headers, connected(client) as nothing:
            body.sendall(half)
            headers.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHos")
            assert ask(client, "w1").status_code == 200  # others are served meanwhile
            assert body.recv(4_096).startswith(b"HTTP/1.1 408 ")
            assert headers.recv(4_096) == b""  # closed without a word
            assert nothing.recv(4_096) == b""
        with connected(client) as second:  # the second request of a connection is slow
            second.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert second.recv(4_096).startswith(b"HTTP/1.1 200 ")
            second.sendall(b"GET /hea")
            rest = b"".join(iter(lambda: second.recv(4_096), b""))
            assert b"HTTP/1.1" not in rest


def test_clients_that_drip_keep_nobody_up(static: Served) -> None:
    """Twenty bodies that come byte by byte, each under its time: all are answered, and so are the quick ones."""
    body = b'{"input": "w1"}'
    headers = ["Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join(["POST /v1/embeddings HTTP/1.1", *headers, "", ""])
    answers: list[bytes] = []

    def drip(client: httpx.Client, pause: threading.Event) -> None:
        with connected(client) as slow:
            slow.sendall(head.encode())
            for byte in body:
                pause.wait(0.01)
                slow.sendall(bytes([byte]))
            answers.append(slow.recv(4_096))

    with running(static) as client, ThreadPoolExecutor(20) as pool:
        pause = threading.Event()
        tasks = [pool.submit(drip, client, pause) for _ in range(20)]
        assert ask(client, "w2").status_code == 200
        for task in tasks:
            task.result()
    assert len(answers) == 20
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
