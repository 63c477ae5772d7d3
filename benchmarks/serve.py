"""The service with 32 clients at once against one request after another, and against FastAPI with
`SentenceTransformer.encode`. Every service is a process of its own; rounds alternate, and medians count. The clients,
of `http.client`, are threads of one process on the same cores: what they cost is in all figures.

    python benchmarks/serve.py [--seconds 10] [--rounds 3] [--words 12] [--out benchmarks/serve.json]
"""

from __future__ import annotations

import argparse
import inspect
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bessemer.encoders.load import model_location
from machine import machine

CLIENTS = 32
HERE = Path(__file__).parent


def short_texts(n_words: int) -> list[str]:
    """Of so many words each, one after the other from docstrings of the standard library."""
    modules = (argparse, json, socket, statistics, subprocess, threading)
    documented = (value for module in modules for value in vars(module).values())
    words = " ".join(inspect.getdoc(value) or "" for value in documented if callable(value)).split()
    return [" ".join(words[start : start + n_words]) for start in range(0, len(words) - n_words, n_words)]


@contextmanager
def service(*command: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, *command, str(port)], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1_200):
            try:
                if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def load(url: str, texts: Sequence[str], n_clients: int, seconds: float) -> dict[str, float]:
    """Requests of one text each, from ``n_clients`` at once: how many a second, and how long each took."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = HTTPConnection(url.removeprefix("http://"), timeout=120)
        with closing(connection):
            place = number
            while time.perf_counter() < until:
                started = time.perf_counter()
                body = json.dumps({"input": [texts[place % len(texts)]]})
                connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
                took.append(time.perf_counter() - started)
                place += n_clients

    started = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    p50, p95, p99 = (1_000 * float(np.quantile(took, q)) for q in (0.5, 0.95, 0.99))
    return {"requests_per_second": len(took) / elapsed, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def median(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]}


def measured(texts: Sequence[str], seconds: float, n_rounds: int) -> dict[str, Any]:
    names = ("one_by_one", "concurrent", "bare_one_by_one", "bare_concurrent")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    ours = ("-m", "bessemer", "serve", "--model", "minilm", "--device", "cpu", "--port")
    bare = (str(HERE / "bare_service.py"), model_location("minilm"))
    with service(*ours) as url, service(*bare) as other:
        for address in (url, other):
            load(address, texts, CLIENTS, min(2.0, seconds))
        for _ in range(n_rounds):
            found["one_by_one"].append(load(url, texts, 1, seconds))
            found["concurrent"].append(load(url, texts, CLIENTS, seconds))
            found["bare_one_by_one"].append(load(other, texts, 1, seconds))
            found["bare_concurrent"].append(load(other, texts, CLIENTS, seconds))
    return {name: median(rounds) for name, rounds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=12, help="of a text: queries are short, passages are not")
    parser.add_argument("--out", default=str(HERE / "serve.json"))
    given = parser.parse_args()
    texts = short_texts(given.words)
    figures = measured(texts, given.seconds, given.rounds)
    rate = {name: one["requests_per_second"] for name, one in figures.items()}
    result = {
        "machine": machine(),
        "clients": CLIENTS,
        "words": given.words,
        "seconds": given.seconds,
        "rounds": given.rounds,
        **figures,
        "times_one_by_one": round(rate["concurrent"] / rate["one_by_one"], 2),
        "times_bare": round(rate["concurrent"] / rate["bare_concurrent"], 2),
    }
    Path(given.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
