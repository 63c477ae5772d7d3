from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import error_of, running

from bessemer.config import ServeConfig
from bessemer.errors import ConfigError
from bessemer.questions.own import own_questions
from bessemer.search.index import open_index
from bessemer.search.index_build import build_index
from bessemer.serving.feedback_log import FeedbackLog
from bessemer.serving.service import Served, Service
from bessemer.types import Passage

PASSAGES = tuple(Passage(f"p{n}", f"d{n}", f"w{n} w{n + 1}") for n in range(4))
GOOD = {"query": "w1 w2", "passage_id": "p1", "helpful": True}


@pytest.fixture(scope="module")
def indexed(static: Served, tiny_static_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("feedback") / "i"
    build_index(folder, PASSAGES, static.encoder, str(tiny_static_model))
    return Served("tiny", static.encoder, ("dense",), indexes={"i": open_index(folder, static.encoder)})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "feedback.jsonl"


@pytest.fixture(scope="module")
def keeping(indexed: Served, file: Path) -> Iterator[httpx.Client]:
    with running(indexed, feedback=str(file)) as client:
        yield client


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_many_at_once_are_the_lines_that_questions_read(
    keeping: httpx.Client, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    bodies = [{"query": f"过滤器 {n % 8}", "passage_id": f"p{n % 4}", "helpful": n % 4 < 2} for n in range(64)]
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda body: keeping.post("/feedback", json=body), bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json() == {"status": "ok"}
    assert "过滤器" not in caplog.text
    kept = lines(file)
    assert kept[0].keys() == {"query", "passage_id", "helpful", "time", "index"}
    assert sorted((line["query"], line["passage_id"], line["helpful"], line["index"]) for line in kept) == sorted(
        (body["query"], body["passage_id"], body["helpful"], "i") for body in bodies
    )
    for line in kept:
        assert line["time"].endswith("Z")
        assert abs((datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()) < 60
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    read = own_questions(file, [], PASSAGES, {f"d{n}": "train" for n in range(4)})
    judged = read.splits["train"]
    found = {query.text: judged.qrels[query.query_id] for query in judged.queries}
    assert found == {f"过滤器 {n}": {f"p{n % 4}": 1} for n in (0, 1, 4, 5)}
    assert len(read.dropped) == 4  # the others have nothing relevant


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"query": " "}, "invalid_request"),
        ({"query": "w1\nw2"}, "invalid_request"),
        ({"query": "w1\x1b[31m"}, "invalid_request"),
        ({"query": "w1\u202ew2"}, "invalid_request"),
        ({"query": "w" * 2_001}, "invalid_request"),
        ({"passage_id": "p\x00"}, "invalid_request"),
        ({"passage_id": "p" * 1_001}, "invalid_request"),
        ({"passage_id": "p9"}, "unknown_passage"),
        ({"helpful": 1}, "invalid_request"),
        ({"helpful": None}, "invalid_request"),
        ({"time": "2026-01-01"}, "invalid_request"),
        ({"index": "elsewhere"}, "unknown_index"),
    ],
)
def test_what_is_no_feedback(keeping: httpx.Client, file: Path, change: dict[str, Any], code: str) -> None:
    before = file.read_bytes()
    refused = keeping.post("/feedback", json=GOOD | change)
    assert (refused.status_code, error_of(refused)["code"]) == (422, code)
    assert file.read_bytes() == before
    surrogate = b'{"query": "\\ud800", "passage_id": "p1", "helpful": true}'
    assert keeping.post("/feedback", content=surrogate).status_code == 422


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {}])
def test_what_another_site_could_send_unasked(keeping: httpx.Client, file: Path, headers: dict[str, str]) -> None:
    """A browser posts JSON to a foreign origin only after asking, which nobody here allows."""
    before = file.read_bytes()
    assert keeping.post("/feedback", content=json.dumps(GOOD), headers=headers).status_code == 422
    assert "access-control-allow-origin" not in keeping.options("/feedback", headers={"Origin": "http://x"}).headers
    assert file.read_bytes() == before


def test_where_none_is_kept_and_who_may_give_it(indexed: Served, tmp_path: Path) -> None:
    with running(indexed) as client:
        refused = client.post("/feedback", json=GOOD)
        assert (refused.status_code, error_of(refused)["code"]) == (400, "no_feedback")
        assert "--feedback FILE" in error_of(refused)["message"]
        assert client.get("/info").json()["feedback"] is False
    with running(indexed, ["sesame"], feedback=str(tmp_path / "kept")) as client:
        assert client.post("/feedback", json=GOOD).status_code == 401
        header = {"Authorization": "Bearer sesame"}
        assert client.post("/feedback", json=GOOD, headers=header).status_code == 200
        assert client.get("/info", headers=header).json()["feedback"] is True
    assert [line["query"] for line in lines(tmp_path / "kept")] == ["w1 w2"]


def test_a_last_line_without_its_end_stays_a_line(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text('{"query": "by hand"}', encoding="utf-8")
    log = FeedbackLog(file)
    log.append({"query": "one"})
    log.append({"query": "two"})
    assert file.read_text(encoding="utf-8") == '{"query": "by hand"}\n{"query": "one"}\n{"query": "two"}\n'


def test_a_disk_that_is_full_leaves_no_half_of_a_line(
    indexed: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource")
    file = tmp_path / "kept"
    log = FeedbackLog(file)
    log.append({"query": "one"})
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(OSError, match="No space left"):  # five bytes of it went in
            log.append({"query": "two"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    with running(indexed, feedback="/dev/full") as client:
        refused = client.post("/feedback", json=GOOD)
        assert (refused.status_code, error_of(refused)["code"]) == (503, "not_written")
        assert client.get("/health").status_code == 200
    assert "No space left on device" in caplog.text


def test_a_file_that_cannot_be_written_is_told_at_the_start(indexed: Served, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--feedback .*nowhere/kept: cannot be written \(No such file or directory\)"
    ):
        Service(indexed, ServeConfig(feedback=str(tmp_path / "nowhere" / "kept")))
