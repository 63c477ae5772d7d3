"""What is sent to a Qdrant server: no request larger than servers take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bessemer.search.stores import qdrant_server
from bessemer.search.stores.passage_fields import point_id
from bessemer.search.stores.qdrant_server import ServerPoints

LIMIT = 200_000


class Wire:
    """Takes what a client would send, as JSON."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.sizes: list[int] = []

    def upsert(self, collection: str, points: Sequence[Any], wait: bool) -> None:
        self.ids += [point.id for point in points]
        self.sizes.append(len(json.dumps([point.model_dump() for point in points]).encode()))


@pytest.mark.parametrize("text", ["x" * 800, "长" * 800])
def test_multi_vectors_are_written_in_requests_that_a_server_takes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """250 passages of 150 tokens, 128 numbers each, are 96 MB as JSON, and servers take 32 MiB."""
    monkeypatch.setattr(qdrant_server, "_REQUEST_BYTES", LIMIT, raising=False)
    rng = np.random.default_rng(0)
    sizes = [3, 60, 1, 1, 400, 2, 30] * 4  # tokens; 400 of them are more than the limit by themselves
    points = [
        (
            point_id(str(number)),
            {"text": text, "headings": ["a"], "metadata": {"n": number}},
            {
                "dense": rng.standard_normal(64).astype(np.float32),
                "tokens": (rng.standard_normal((size, 32)) * 1e-4).astype(np.float32),
                "bm25": (list(range(2**31 - 40, 2**31)), [0.1] * 40),
            },
        )
        for number, size in enumerate(sizes)
    ]
    wire = Wire()
    ServerPoints(wire, "Index", "qdrant://local/Index").write(points)
    assert wire.ids == [point for point, _, _ in points]
    assert sum(size > LIMIT for size in wire.sizes) == 4
    assert len(wire.sizes) <= 12  # as few as fit, not one for each


def test_small_points_go_250_at_once() -> None:
    wire = Wire()
    points = [(point_id(str(number)), {"text": "x"}, {"dense": np.ones(8, dtype=np.float32)}) for number in range(600)]
    ServerPoints(wire, "Index", "qdrant://local/Index").write(points)
    assert len(wire.ids) == 600
    assert len(wire.sizes) == 3
