"""An OpenAI-compatible server whose behaviour a test writes down: real HTTP, in a process or thread of its own.

A script is a function from the request (path and JSON body) and its number to an `Answer`; requests are recorded.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bessemer.config import LLMConfig
from bessemer.llm.request import Request


@dataclass
class Answer:
    """``body`` is sent as it is where it is bytes; ``cut``: the connection ends after so many bytes of it."""

    body: Any
    status: int = 200
    seconds: float = 0.0
    cut: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[dict[str, Any], int], Answer]


def chat(text: str, *, finish: str = "stop", usage: tuple[int, int] | None = (10, 5)) -> Answer:
    """A chat completion."""
    body: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Answer(body)


def fault(status: int, message: str = "scripted", **headers: str) -> Answer:
    return Answer({"error": {"message": message, "type": "scripted"}}, status, headers=headers)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # calls come many at once
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that are killed, or tired of waiting, are part of the tests."""


class Scripted:
    """The running server: its URL, and what it was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.models: tuple[str, ...] = ()
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def users(self) -> list[str]:
        """The user's part of every chat request."""
        return [request["messages"][-1]["content"] for request in self.requests]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in outer.models]}
                self._send(Answer(listed) if outer.models else fault(404, "no list"))

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    number = len(outer.requests)
                    outer.requests.append(request)
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    outer._open += 1
                    outer.most_at_once = max(outer.most_at_once, outer._open)
                try:
                    self._send(outer.script(request, number))
                finally:
                    with outer._lock:
                        outer._open -= 1

            def _send(self, answer: Answer) -> None:
                time.sleep(answer.seconds)
                body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for name, value in answer.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body[: answer.cut])
                if answer.cut is not None:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None: ...

        return Handler


@contextmanager
def serving(script: Script) -> Iterator[Scripted]:
    scripted = Scripted(script)
    thread = threading.Thread(target=scripted.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield scripted
    finally:
        scripted.server.shutdown()
        scripted.server.server_close()
        thread.join()


_PASSAGE = re.compile(r"<passage ([0-9a-f]{12})>\n(.*?)\n</passage \1>", re.DOTALL)


def passages_of(request: dict[str, Any]) -> list[str]:
    """What stands between the marks of a prompt."""
    return [text for _, text in _PASSAGE.findall(request["messages"][-1]["content"])]


def obliging(request: dict[str, Any], number: int) -> Answer:
    """A model that does as it is told: it asks about the longest words of a passage, of one held out about the
    shortest, rewords by turning round, and finds that every passage answers its question."""
    del number
    system, user = (message["content"] for message in request["messages"])
    if "into other words" in system:
        return chat(json.dumps([" ".join(reversed(text.split())) for text in json.loads(user)], ensure_ascii=False))
    if "judge whether" in system:
        return chat("yes")
    words = list(dict.fromkeys(re.findall(r"\w{4,}", " ".join(passages_of(request)))))
    sign = 1 if "stand in for the people" in system else -1  # the short words for what is not trained on
    longest = sorted(words, key=lambda word: (sign * len(word), word))
    n = int((re.search(r"(\d+) (?:at most|question)", system) or ["", "1"])[1])
    groups = [longest[3 * i : 3 * i + 3] for i in range(n)]
    asked = [{"question": f"what about {' '.join(group)}", "evidence": group[0]} for group in groups if len(group) == 3]
    return chat(json.dumps(asked, ensure_ascii=False))


def settings(server: Scripted, **given: Any) -> LLMConfig:
    """Of a client of ``server``."""
    return LLMConfig(**{"url": server.url, "model": "m", "max_retries": 2, "timeout": 5, **given})


def ask(n: int) -> list[Request]:
    """Numbered questions."""
    return [Request("be brief", f"question {i}", max_tokens=20) for i in range(n)]


def echo(request: dict[str, Any], _: int) -> Answer:
    """A script: what was asked comes back."""
    return chat(f"re: {request['messages'][-1]['content']}")


def llm_of(server: Scripted, **given: Any) -> dict[str, Any]:
    """The section `llm` of a configuration, without retries."""
    return {"url": server.url, "model": "scripted", "max_retries": 0, **given}
