from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest
from served import error_of, running

from bessemer.errors import ConfigError
from bessemer.serving.keys import is_loopback, read_keys, require_safe_host
from bessemer.serving.service import Served

KEY = "sesame-1"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_file_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n\n  first-key \r\nsecond=key\n#no-key\n", encoding="utf-8")
    keys = read_keys(str(file))
    assert keys.knows(b"first-key")
    assert keys.knows(b"second=key")
    for wrong in (b"", b"first", b"first-key ", b"#no-key", b"no-key", b"FIRST-KEY"):
        assert not keys.knows(wrong)
    assert "first-key" not in repr(vars(keys))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "holds no key"), (b"# a\n\n", "holds no key"), (b"a\nb c\n", ":2: a key is"), (b"\xff", "no UTF-8"),
     ("schlüssel".encode(), ":1: a key is")],
)  # fmt: skip
def test_files_that_hold_no_keys(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_keys(str(file))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(str(tmp_path / "none"))


def test_others_reach_the_service_with_keys_alone(tmp_path: Path) -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST")))
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", ""):
        with pytest.raises(ConfigError, match="give --api-key-file"):
            require_safe_host(host, None)
    (tmp_path / "keys").write_text(KEY)
    require_safe_host("0.0.0.0", read_keys(str(tmp_path / "keys")))


def test_who_is_let_in(static: Served, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the client logs what it asks for, the service does not
    with caplog.at_level(logging.INFO), running(static, [KEY, "other-2"]) as client:
        for key in (KEY, "other-2"):
            assert client.post("/v1/embeddings", json={"input": "w1"}, headers=bearer(key)).status_code == 200
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/").status_code == 200
        refused = [
            client.post("/v1/embeddings", json={"input": "secret words"}),
            client.post("/v1/embeddings", content=b"{no json", headers=bearer("wrong")),
            client.post("/v1/embeddings", json={"input": "w1"}, headers={"Authorization": KEY}),
            client.post("/v1/embeddings", json={"input": "w1"}, headers={"Authorization": f"Basic {KEY}"}),
            client.post("/v1/embeddings", json={"input": "w1"}, headers=[("Authorization", f"Bearer {KEY}")] * 2),
            client.post(f"/v1/embeddings?api_key={KEY}", json={"input": "w1"}),
            client.post(f"/v1/embeddings?api-key={KEY}", json={"input": "w1"}, headers=bearer(KEY)),
            client.get(f"/info?token={KEY}", headers=bearer(KEY)),
            *(client.get(path) for path in ("/info", "/metrics", "/v1/models", "/openapi.json", "/nowhere")),
            client.request("OPTIONS", "/search"),
        ]
    for response in refused:
        assert response.status_code == 401, response.url
        assert response.headers["www-authenticate"] == "Bearer"
        assert error_of(response)["type"] == "authentication_error"
        assert KEY not in response.text
    assert KEY not in caplog.text
    assert "secret words" not in caplog.text


def test_nothing_is_read_of_a_strangers_body(static: Served) -> None:
    """The answer comes while the body, announced as very long, has not begun, and with it the end: a stranger who drips
    a body cannot hold the connection open."""
    with running(static, [KEY]) as client, socket.create_connection((client.base_url.host, client.base_url.port)) as s:  # type: ignore[arg-type]
        s.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        s.settimeout(5)
        answer = b"".join(iter(lambda: s.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in answer.lower()
