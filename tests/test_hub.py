"""A hub that gives no answer: nobody waits for it, and what the cache holds is used. Processes of their own, since the
hub's address is read once."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bessemer.hub import is_out_of_reach
from lane_models import write_cross_encoder, write_dense, write_sparse

REVISION = "a" * 40
LOAD = """
import json, sys
from bessemer.encoders.kinds import kind_of
from bessemer.encoders.load import load_encoder
from bessemer.encoders.sparse import load_sparse
from bessemer.errors import ConfigError
from bessemer.llm.local import load_causal_lm
from bessemer.search.rerank import CrossEncoderReranker
print(json.dumps([kind_of("some/dense"), kind_of("some/sparse")]))
print(load_encoder("some/dense", device="cpu").dimension > 0, load_sparse("some/sparse", device="cpu").dimension > 0)
print(CrossEncoderReranker("some/cross").name)
for load in (load_encoder, load_sparse, load_causal_lm, CrossEncoderReranker):
    try:
        load("minilmm")
    except ConfigError as error:
        print(error)
"""


def answers_nothing() -> str:
    """An address that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def run(code: str, cache: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(cache), "HF_ENDPOINT": endpoint}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def put_into_cache(model: Path, cache: Path, name: str) -> None:
    """As a load with a connection leaves it, which has asked for an adapter, too."""
    folder = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(model, folder / "snapshots" / REVISION)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(REVISION)
    (folder / ".no_exist" / REVISION).mkdir(parents=True)
    (folder / ".no_exist" / REVISION / "adapter_config.json").touch()


def test_what_the_cache_holds_loads_and_the_rest_is_refused_without_retries(tmp_path: Path) -> None:
    for name, write in (("dense", write_dense), ("sparse", write_sparse), ("cross", write_cross_encoder)):
        put_into_cache(write(tmp_path / name), tmp_path / "cache", f"some/{name}")
    found = run(LOAD, tmp_path / "cache", answers_nothing())
    assert found.returncode == 0, found.stderr
    kinds, loaded, reranker, *refused = found.stdout.splitlines()
    assert json.loads(kinds) == ["dense", "sparse"]
    assert (loaded, reranker) == ("True True", "some/cross")
    assert len(refused) == 4
    assert refused[0].startswith("minilmm: no such folder or alias, and not to be had from the hub: ")
    assert refused[0].endswith("; did you mean minilm?")
    assert all(line.startswith("minilmm: ") for line in refused)
    assert "Retrying" not in found.stderr


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub that knows one model and is at fault about another."""

    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            code = 200 if "/known/" in self.path else 503 if "/faulty/" in self.path else 404
            self.send_response(code)
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", '"x"')
            self.send_header("Content-Length", "2")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_hub_that_answers_is_within_reach(hub: str, tmp_path: Path) -> None:
    code = (
        "from bessemer.hub import is_out_of_reach as out\n"
        "print(out('some/known'), out('some/unknown'), out('some/faulty'), out('not a name of the hub'))"
    )
    assert run(code, tmp_path, hub).stdout.split() == ["False", "False", "True", "False"]


def test_a_folder_needs_no_hub(tmp_path: Path) -> None:
    assert not is_out_of_reach(str(tmp_path))
    assert is_out_of_reach("some/model")  # the tests' own hub is offline
