"""The service as a process of its own: it starts, stops in order, and refuses what is unsafe."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bessemer.config import ServeConfig
from bessemer.encoders.load import load_encoder
from bessemer.errors import EngineError
from bessemer.serving.server import run
from bessemer.serving.service import Served, Service

BODY = b'{"input": "w1 w2"}'
HEAD = (
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
)


@contextmanager
def process(*flags: str | Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """The process with the host and port that it names once it takes requests."""
    command = [sys.executable, "-m", "bessemer", "serve", "--port", "0", "--device", "cpu", *map(str, flags)]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ)
    assert started.stderr
    try:
        line = started.stderr.readline()
        assert line.startswith("http://127.0.0.1:"), line + started.stderr.read()
        yield started, "127.0.0.1", int(line.split()[0].rsplit(":", 1)[1])
    finally:
        started.kill()
        started.wait()
        started.stderr.close()


def test_what_is_in_flight_is_answered_before_the_end(tiny_static_model: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("sesame\n")
    with process("--model", tiny_static_model, "--api-key-file", tmp_path / "keys") as (started, host, port):
        assert httpx.get(f"http://{host}:{port}/health", trust_env=False).json() == {"status": "ok"}
        with socket.create_connection((host, port)) as flying:
            flying.settimeout(20)
            flying.sendall(HEAD + BODY[:5])
            time.sleep(0.2)  # the server has the first half
            started.send_signal(signal.SIGTERM)
            while not _refuses(host, port):
                time.sleep(0.02)
            assert started.poll() is None
            flying.sendall(BODY[5:])
            answer = b"".join(iter(lambda: flying.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(json.loads(answer.split(b"\r\n\r\n", 1)[1])["data"][0]["embedding"]) == 16
        assert started.wait(20) == 0
        assert started.stderr
        logged = started.stderr.read()
    assert [json.loads(line)["status"] for line in logged.splitlines()] == [200, 200]
    assert "sesame" not in logged


def _refuses(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--model", "minilm", "--host", "0.0.0.0"), "error: --host 0.0.0.0: others could reach the service"),
        ((), "error: give --index (once for each), whose model is served as well, or --model alone"),
        (("--model", "minilm", "--index", "i"), "error: give --index"),
        (("--model", "minilm", "--port", "70000"), "error: --port: Input should be less than or equal to 65535"),
        (("--model", "minilm", "--api-key-file", "nowhere"), "error: --api-key-file nowhere: cannot be read"),
    ],
)
def test_what_is_refused_before_the_start(
    flags: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import Result
    from typer.testing import CliRunner

    from bessemer.cli import app

    monkeypatch.chdir(tmp_path)
    result: Result = CliRunner().invoke(app, ["serve", *flags])
    assert result.exit_code == 2
    assert result.stderr.startswith(told)


def test_a_model_that_cannot_encode_ends_the_start_with_its_own_error(tiny_static_model: Path) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(encoder, name)

        def encode_queries(self, _: list[str]) -> None:
            raise EngineError("the engine is down")

    encoder = load_encoder(str(tiny_static_model), device="cpu")
    service = Service(Served("tiny", Broken(), ("dense",)), ServeConfig(port=0))  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="the engine is down"):
        run(service, None, lambda host, port: pytest.fail("nothing is served"))
    assert not service.batcher.is_alive


def test_a_port_that_is_taken(tiny_static_model: Path) -> None:
    from typer.testing import CliRunner

    from bessemer.cli import app

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "--model", str(tiny_static_model), "--port", str(port)])
    assert result.exit_code == 2
    assert f"--port {port}: cannot be listened on" in result.stderr
