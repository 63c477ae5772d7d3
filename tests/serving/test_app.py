"""The service as strangers meet it: its schema is true, and nothing that they send hurts it."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # parsed here: beside the service's threads Python 3.11's parser has failed
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method
from served import error_of, running, soon

from bessemer.serving.service import Served

PATHS = ("/v1/embeddings", "/rerank", "/embed_sparse", "/search", "/ask", "/feedback")
SEEDS: tuple[Any, ...] = (
    {"input": ["w1", "w2"], "encoding_format": "float"},
    {"query": "w1", "passages": ["w1", "w2"], "top_n": 1},
    {"query": "w1", "where": [{"field": "f", "operator": "=", "values": [1]}]},
    {"question": "w1"},
    {"query": "w1", "passage_id": "w1", "helpful": True},
)
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1e400, "", " ", "w1", "\x00", "\u202e", [], {}, [[]], [[1]], ["w1", None], {"a": "w1"},
    "x" * 10_000, ["w1"] * 300, "../../etc/passwd", "' OR 1=1 --", "{{7*7}}", "\U0001f600",
)  # fmt: skip
RAW = (
    b"", b"{", b"null", b"[]", b'"', b"\xff\xfe", b'{"input": "\\ud800"}', b'{"query": "\\udfff", "passages": ["w1"]}',
    b'{"input": NaN}', b'{"input": Infinity}', b"[" * 5_000, b'{"a":' * 5_000, b'{"input": ' + b"9" * 6_000 + b"}",
    b'{"input": "w1", "input": ["w2"]}', b"input=w1", b"\x00" * 100, b"\xef\xbb\xbf{}",
)  # fmt: skip
TYPES = (
    *("application/json",) * 8, "text/plain", "application/xml", "multipart/form-data; boundary=x", "",
    "application/json; charset=utf-16",
)  # fmt: skip


UNSAYABLE = [positive_data_acceptance, unsupported_method]


@pytest.fixture(scope="module")
def tiny(static: Served) -> Iterator[httpx.Client]:
    with running(static) as client:
        yield client


def hostile(draws: random.Random) -> bytes:
    """A body: a good one with values, keys or bytes changed, or none at all."""
    if draws.random() < 0.2:
        return draws.choice(RAW)
    body = dict(draws.choice(SEEDS))
    for _ in range(draws.randint(1, 3)):
        key = draws.choice([*body, "input", "query", "model", "top_k", "dimensions", "__class__"])
        body[key] = draws.choice(VALUES)
    content = bytearray(json.dumps(body).encode())
    if draws.random() < 0.3:
        for _ in range(draws.randint(1, 5)):
            content[draws.randrange(len(content))] = draws.randrange(256)
    return bytes(content[: draws.randint(0, len(content))] if draws.random() < 0.1 else content)


def test_a_thousand_hostile_bodies(tiny: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    draws = random.Random(5)
    statuses: dict[int, int] = {}
    with caplog.at_level(logging.ERROR):
        for _ in range(1_000):
            sent = hostile(draws)
            headers = {"Content-Type": draws.choice(TYPES)}
            found = tiny.post(draws.choice(PATHS), content=sent, headers=headers)
            statuses[found.status_code] = statuses.get(found.status_code, 0) + 1
            assert found.status_code in (200, 400, 422), (sent, found.text)
            if found.status_code != 200:
                error_of(found)
    assert len(statuses) == 3, statuses
    assert caplog.text == ""
    assert tiny.get("/health").json() == {"status": "ok"}
    assert tiny.post("/v1/embeddings", json={"input": "w1"}).status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/search", 405)])
def test_what_is_not_there(tiny: httpx.Client, method: str, path: str, status: int) -> None:
    found = tiny.request(method, path)
    assert found.status_code == status
    error_of(found)


def test_a_fault_says_where_and_not_what_was_sent(tiny: httpx.Client) -> None:
    found = tiny.post("/search", json={"query": 7, "secret": "my words"})
    assert error_of(found)["message"] == (
        "query: Input should be a valid string; secret: Extra inputs are not permitted"
    )


def test_information(tiny: httpx.Client) -> None:
    found = tiny.get("/info").json()
    assert found["model"]["name"] == "tiny"
    assert (found["model"]["dimension"], found["model"]["outputs"]) == (16, ["dense"])
    assert (found["indexes"], found["ask"], found["reranker"]) == ([], False, None)
    assert found["limits"]["max_items"] == 2_048
    assert "tiny" not in tiny.get("/").text  # it is open to all


def test_the_log_has_a_line_for_each_request_without_its_text(
    tiny: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="bessemer.serve"):
        found = tiny.post("/v1/embeddings?trace=private", json={"input": ["w1 w2", "w3"]})
        other = tiny.get("/private/path")
        lines: dict[str, dict[str, object]] = {}

        def both() -> bool:  # a line is written after the answer, those of other tests' requests perhaps now
            told = [json.loads(record.message) for record in caplog.records if record.name == "bessemer.serve"]
            lines.update({line["id"]: line for line in told if "id" in line})
            return {answer.headers["x-request-id"] for answer in (found, other)} <= lines.keys()

        soon(both)
    first, second = (lines[answer.headers["x-request-id"]] for answer in (found, other))
    assert first.pop("seconds") > 0
    assert first == {"id": found.headers["x-request-id"], "method": "POST", "path": "/v1/embeddings", "status": 200,
                     "items": 2, "tokens": 3, "truncated": 0}  # fmt: skip
    assert (second["path"], second["status"]) == ("other", 404)
    assert "private" not in caplog.text


def test_metrics(static: Served) -> None:
    with running(static) as client:
        client.post("/v1/embeddings", json={"input": ["w1 w2", "w3"]})
        client.post("/v1/embeddings", json={"input": 3})
        found = client.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain")
    lines = found.text.splitlines()
    for line in (
        'bessemer_requests_total{method="POST",path="/v1/embeddings",status="200"} 1.0',
        'bessemer_requests_total{method="POST",path="/v1/embeddings",status="422"} 1.0',
        'bessemer_items_total{path="/v1/embeddings"} 2.0',
        'bessemer_tokens_total{path="/v1/embeddings"} 3.0',
        "bessemer_batch_items_count 1.0",
        "bessemer_batch_items_sum 2.0",
        "bessemer_queue_requests 0.0",
    ):
        assert line in lines


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_schema_is_true(client: httpx.Client, mode: GenerationMode) -> None:
    """Every answer is as the schema says, to bodies that it allows and to others. What it cannot say (that an index of
    that name has to be there, say) makes some that it allows unusable."""
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue

        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        @hypothesis.settings(max_examples=10, deadline=None, derandomize=True, database=None)
        def check(case: Any) -> None:
            case.call_and_validate(base_url=str(client.base_url), excluded_checks=UNSAYABLE, timeout=30)

        check()
