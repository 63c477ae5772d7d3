"""How near to the ideal many calls to a language model come, and what a kill costs.

    python benchmarks/questions.py [--json benchmarks/questions.json]

500 passages are asked about, 16 calls at a time, of a scripted server that takes 50 ms for each: at best
500 * 0.05 / 16 s. Then once more, killed (SIGKILL) when half of the calls were made, and run again: what was asked
twice, what is missing. The server is a process of its own and counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

N_PASSAGES, CONCURRENCY, SECONDS = 500, 16, 0.05
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "questions.json")
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = ours.recv()
    ideal = math.ceil(N_PASSAGES / CONCURRENCY) * SECONDS
    with tempfile.TemporaryDirectory() as folder:
        warm = run(url, Path(folder, "warm"))
        times = [run(url, Path(folder, f"round-{i}"))["seconds"] for i in range(ROUNDS)]
        before = asked(ours)
        killed = spawn.Process(target=run, args=(url, Path(folder, "killed")))
        killed.start()
        while sum((asked(ours) - before).values()) < N_PASSAGES // 2:
            time.sleep(0.02)
        killed.kill()
        killed.join()
        n_before_the_kill = sum((asked(ours) - before).values())
        after = run(url, Path(folder, "killed"))
        calls = asked(ours) - before
    found = {
        "n_passages": N_PASSAGES,
        "concurrency": CONCURRENCY,
        "seconds_per_call": SECONDS,
        "ideal_seconds": ideal,
        "seconds": [round(t, 2) for t in times],
        "over_ideal": round(sorted(times)[len(times) // 2] / ideal, 2),
        "target": 1.5,
        "killed": {
            "calls_before": n_before_the_kill,
            "calls_after": sum(calls.values()) - n_before_the_kill,
            "asked_twice": sum(n > 1 for n in calls.values()),
            "passages_missing": N_PASSAGES - len(calls),
            "questions": after["questions"],
            "same_questions_as_without": after["texts"] == warm["texts"],
        },
    }
    given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def asked(server: Connection) -> Counter[str]:
    """How often each passage was asked about."""
    server.send("asked")
    return Counter(server.recv())


def serve(connection: Connection) -> None:
    asyncio.run(_serve(connection))


async def _serve(connection: Connection) -> None:
    """HTTP/1.1 with kept connections and nothing else, so that it is not the server that is measured."""
    from scripted_llm import obliging

    users: Counter[str] = Counter()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                request = json.loads(await reader.readexactly(length))
                users[request["messages"][-1]["content"]] += 1
                await asyncio.sleep(SECONDS)
                body = json.dumps(obliging(request, 0).body).encode()
                start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                writer.write(start % len(body) + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    connection.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    while await asyncio.to_thread(connection.recv):
        connection.send(users)


def run(url: str, folder: Path) -> dict[str, Any]:
    from bessemer.config import LLMConfig, QuestionsConfig
    from bessemer.llm.client import Client
    from bessemer.llm.request_cache import RequestCache
    from bessemer.questions.generate import generate
    from bessemer.types import Passage

    passages = [Passage(f"p{i}", f"d{i}", text(i)) for i in range(N_PASSAGES)]
    splits = {f"d{i}": "test" for i in range(N_PASSAGES)}
    config = QuestionsConfig(paraphrase=False, multi_passage_share=0)
    with RequestCache(folder / "replies.sqlite") as cache:
        client = Client(LLMConfig(url=url, model="scripted", concurrency=CONCURRENCY), cache)
        started = time.perf_counter()
        found = generate(passages, splits, client, config, seed=42)
        seconds = time.perf_counter() - started
    texts = [candidate.text for candidate in found.kept]
    return {"seconds": seconds, "questions": len(texts), "texts": texts}


def text(i: int) -> str:
    return " ".join(
        f"{word}{i}" for word in ("procedure", "warranty", "temperature", "controller", "maintenance", "valve")
    )


if __name__ == "__main__":
    main()
