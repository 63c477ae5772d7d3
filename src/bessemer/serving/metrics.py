"""Figures for Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bessemer.serving.batching import Turn
from bessemer.serving.logs import CLIENT_GONE, Facts

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """What `/metrics` tells: requests, texts, tokens, turns of the model, and what waits for it."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = Counter(
            "bessemer_requests", "Requests by path and status.", ["method", "path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "bessemer_request_seconds", "From the first byte to the last.", ["path"], buckets=SECONDS, registry=registry
        )
        self._items = Counter("bessemer_items", "Texts of requests.", ["path"], registry=registry)
        self._tokens = Counter("bessemer_tokens", "Tokens that the model read.", ["path"], registry=registry)
        self._truncated = Counter(
            "bessemer_truncated", "Texts longer than the model reads.", ["path"], registry=registry
        )
        self._cancelled = Counter("bessemer_cancelled_requests", "Requests whose client went away.", registry=registry)
        self._turn_items = Histogram(
            "bessemer_batch_items", "Texts computed together.", buckets=ITEMS, registry=registry
        )
        self._turn_requests = Histogram(
            "bessemer_batch_requests", "Requests computed together.", buckets=ITEMS, registry=registry
        )
        self._turn_seconds = Histogram(
            "bessemer_batch_seconds", "Of one turn of the model.", buckets=SECONDS, registry=registry
        )

    def watch_queue(self, waiting: Callable[[], tuple[int, int]]) -> None:
        """``waiting``: (requests, tokens)."""
        requests = Gauge("bessemer_queue_requests", "Requests that wait for the model.", registry=self.registry)
        requests.set_function(lambda: waiting()[0])
        tokens = Gauge("bessemer_queue_tokens", "Tokens that wait for the model.", registry=self.registry)
        tokens.set_function(lambda: waiting()[1])

    def request(self, facts: Facts) -> None:
        method = facts.method if facts.method in ("GET", "POST") else "other"
        self._requests.labels(method, facts.path, str(facts.status)).inc()
        self._seconds.labels(facts.path).observe(facts.seconds)
        if facts.status == CLIENT_GONE:
            self._cancelled.inc()
        for counter, n in ((self._items, facts.items), (self._tokens, facts.tokens)):
            counter.labels(facts.path).inc(n)
        self._truncated.labels(facts.path).inc(facts.truncated)

    def turn(self, turn: Turn) -> None:
        self._turn_items.observe(turn.n_items)
        self._turn_requests.observe(turn.n_requests)
        self._turn_seconds.observe(turn.seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
