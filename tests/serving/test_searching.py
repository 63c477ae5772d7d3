from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from served import DOCUMENTS, error_of, running, soon

from bessemer.config import Config
from bessemer.encoders.encoder import OUTPUTS
from bessemer.errors import ConfigError, ServiceError
from bessemer.recipes.ask import Asker
from bessemer.recipes.serve import open_indexes
from bessemer.search.index import open_index
from bessemer.search.index_build import build_index
from bessemer.search.rerank import CrossEncoderReranker
from bessemer.serving.service import Served
from bessemer.types import Passage
from lane_models import unified_minilm, write_cross_encoder
from scripted_llm import Answer, chat, fault, serving

DOCS = Path(__file__).parents[2].joinpath("docs", "serving.md").read_text(encoding="utf-8")
QUESTION = "How often may the pump start?"


def test_the_rows_of_search(client: httpx.Client, manuals: Path) -> None:
    found = client.post("/search", json={"query": QUESTION, "top_k": 3}).json()
    own = open_index(manuals).search(QUESTION, 3)
    assert (found["index"], found["truncated"]) == ("manuals", False)
    assert [hit["passage_id"] for hit in found["hits"]] == [hit["passage_id"] for hit in own]
    assert found["hits"][0].keys() == own[0].keys()
    assert found["hits"][0]["score"] == pytest.approx(own[0]["score"], rel=1e-6)
    explained = client.post("/search", json={"query": QUESTION, "explain": True, "index": "manuals"}).json()
    assert "unified models only" in explained["hits"][0]["explain"]["note"]


def test_conditions_as_text_and_as_objects(client: httpx.Client) -> None:
    where = ["doc_id=filter.md", "doc_id = pump.md", {"field": "doc_id", "operator": "!=", "values": ["pump.md"]}]
    found = client.post("/search", json={"query": QUESTION, "where": where}).json()["hits"]
    assert {hit["doc_id"] for hit in found} == {"filter.md"}
    refused = client.post("/search", json={"query": QUESTION, "where": ["my secret"]})
    assert (refused.status_code, error_of(refused)["code"]) == (422, "invalid_request")
    assert error_of(refused)["message"].startswith("where: write FIELD=VALUE")


def test_history_stands_before_the_query(client: httpx.Client) -> None:
    turns = {"history": ["We talk about the filter and clear water."], "query": "and how often?"}
    found = client.post("/search", json={**turns, "top_k": 1}).json()["hits"]
    assert found[0]["doc_id"] == "filter.md"


def test_chinese(client: httpx.Client) -> None:
    assert client.post("/search", json={"query": "怎样冲洗过滤器？"}).json()["hits"][0]["doc_id"] == "中文.md"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"query": QUESTION, "index": "elsewhere"}, "unknown_index"),
        ({"query": QUESTION, "task": "qa"}, "task"),
        ({"query": "  \n"}, "invalid_request"),
        ({"query": QUESTION, "top_k": 0}, "invalid_request"),
        ({"query": QUESTION, "top_k": 1001}, "invalid_request"),
        ({"query": QUESTION, "topk": 3}, "invalid_request"),
    ],
)
def test_what_cannot_be_searched(client: httpx.Client, body: dict[str, object], code: str) -> None:
    refused = client.post("/search", json=body)
    assert (refused.status_code, error_of(refused)["code"]) == (422, code)


def test_without_an_index(static: Served) -> None:
    with running(static) as client:
        assert client.post("/search", json={"query": "w1"}).status_code == 400
        assert client.post("/ask", json={"question": "w1"}).status_code == 400


def test_a_unified_index_with_reasons(tmp_path: Path) -> None:
    encoder = unified_minilm()
    passages = [Passage(name, name, text) for name, text in DOCUMENTS.items()]
    build_index(tmp_path / "unified", passages, encoder, "minilm")
    opened = open_index(tmp_path / "unified", encoder)
    with running(Served("unified", encoder, OUTPUTS, indexes={"unified": opened})) as client:
        found = client.post("/search", json={"query": QUESTION, "explain": True, "top_k": 2}).json()["hits"]
    own = opened.search(QUESTION, 2, with_tokens=True)
    assert [hit["passage_id"] for hit in found] == [hit["passage_id"] for hit in own]
    assert {"dense", "sparse", "bm25", "multi_vector"} >= found[0]["lanes"].keys() >= {"multi_vector"}
    assert found[0]["explain"]["sparse"][0]["token"] == own[0]["explain"]["sparse"][0]["token"]


def test_a_cross_encoder_after_the_search(searchable: Served, tmp_path: Path) -> None:
    reranker = CrossEncoderReranker(str(write_cross_encoder(tmp_path)), "cpu")
    body = {"query": QUESTION, "top_k": 2}
    with running(replace(searchable, reranker=reranker)) as client:
        plain = client.post("/search", json=body).json()["hits"]
        found = client.post("/search", json={**body, "rerank": True}).json()["hits"]
        told = client.get("/info").json()["reranker"]
    own = next(iter(searchable.indexes.values())).search(QUESTION, 2, reranker=reranker)
    assert [hit["passage_id"] for hit in found] == [hit["passage_id"] for hit in own]
    assert found[0]["lanes"]["reranker"]["rank"] == 1
    assert told == Path(reranker.name).name != reranker.name
    assert "reranker" not in plain[0]["lanes"]
    with running(searchable) as client:
        refused = client.post("/search", json={**body, "rerank": True})
    assert (refused.status_code, error_of(refused)["code"]) == (400, "no_reranker")


def test_a_change_on_disk_is_seen(
    static: Served, tiny_static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bessemer.serving.refreshing.REFRESH_SECONDS", 0.0)

    def built(*texts: str) -> None:
        passages = [Passage(text, text, text) for text in texts]
        build_index(tmp_path, passages, static.encoder, str(tiny_static_model))

    built("w1 w2", "w3 w4")
    opened = open_index(tmp_path, static.encoder)
    with running(Served("tiny", static.encoder, ("dense",), indexes={"i": opened})) as client:
        body = {"query": "w9", "top_k": 1}
        assert client.post("/search", json=body).json()["hits"][0]["text"] != "w9 w10"
        built("w1 w2", "w3 w4", "w9 w10")
        assert client.post("/search", json=body).json()["hits"][0]["text"] == "w9 w10"
        (tmp_path / "manifest.json").write_text("{")  # what is open goes on
        assert client.post("/search", json=body).json()["hits"][0]["text"] == "w9 w10"


def test_an_answer_with_citations(manuals: Path, searchable: Served, tmp_path: Path) -> None:
    replies = [chat("Twelve times an hour [1]."), fault(500)]

    def script(request: dict[str, object], number: int) -> object:
        return replies[min(number, 1)]

    with serving(script) as server:  # type: ignore[arg-type]
        llm = {"url": server.url, "model": "m", "max_retries": 0}
        config = Config(workspace=str(tmp_path / "workspace"), llm=llm)
        indexes = open_indexes(Config(), [str(manuals)])
        asker = Asker(config, indexes)
        served = Served("minilm", searchable.encoder, ("dense",), indexes=indexes, ask=asker)
        with running(served) as client:
            found = client.post("/ask", json={"question": QUESTION, "top_k": 2}).json()
            again = client.post("/ask", json={"question": QUESTION, "top_k": 2}).json()
            where = ["doc_id!=pump.md", "doc_id!=codes.md"]
            elsewhere = client.post("/ask", json={"question": QUESTION, "top_k": 2, "where": where})
            down = client.post("/ask", json={"question": "Which colour has the invoice paper?"})
            unknown = client.post("/ask", json={"question": QUESTION, "index": ["nowhere"]})
    assert (found["found"], found["answer"], found["cached"]) == (True, "Twelve times an hour [1].", None)
    assert (found["citations"][0]["index"], found["indexes"]) == ("manuals", ["manuals"])
    assert str(manuals) not in json.dumps(found)
    assert re.fullmatch(r"(pump|codes)\.md", found["citations"][0]["doc_id"])
    assert again["cached"] == QUESTION
    assert elsewhere.status_code == 503  # other passages, so another question to the language model
    assert (down.status_code, error_of(down)["code"]) == (503, "language_model")
    assert unknown.status_code == 422


def test_a_language_model_that_hangs_is_left(manuals: Path, tmp_path: Path) -> None:
    """It has as long as a request may take: nobody waits for the answer after that."""
    with serving(lambda *_: Answer(chat("Late [1].").body, seconds=2.0)) as server:
        llm = {"url": server.url, "model": "m", "timeout": 30}
        config = Config(workspace=str(tmp_path / "workspace"), llm=llm, serve={"request_seconds": 1.0})
        asker = Asker(config, open_indexes(Config(), [str(manuals)]))
        with pytest.raises(ServiceError, match="no answer within"):
            asker(["manuals"], QUESTION, 2, ())


def test_what_the_first_question_would_meet_is_met_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "workspace").write_text("a file")
    config = Config(workspace=str(tmp_path / "workspace"), llm={"url": "http://127.0.0.1:9/v1", "model": "m"})
    with pytest.raises(ConfigError, match="pass --workspace"):
        Asker(config, {})


def test_more_questions_than_the_language_model_is_asked(
    searchable: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One whose client has gone counts until it has ended."""
    monkeypatch.setattr("bessemer.serving.service.ASKS_AT_ONCE", 1)
    gate, begun = threading.Event(), threading.Event()

    def failing(*_: object) -> dict[str, object]:
        begun.set()
        assert gate.wait(30)
        raise ServiceError("http://llm/v1: 401 the key is no more")

    body = {"question": QUESTION}
    with running(replace(searchable, ask=failing), request_seconds=0.3) as client:
        assert client.post("/ask", json=body).status_code == 504
        assert begun.is_set()
        refused = client.post("/ask", json=body)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "busy")
        assert refused.headers["Retry-After"] == "5"
        gate.set()
        soon(lambda: client.post("/ask", json=body).status_code == 503)
    assert "401 the key is no more" in caplog.text


def test_a_question_is_held_to_the_limits_of_a_request(searchable: Served) -> None:
    with running(replace(searchable, ask=lambda *_: {}), max_request_tokens=20) as client:
        refused = client.post("/ask", json={"question": "pump " * 50})
    assert (refused.status_code, error_of(refused)["code"]) == (422, "too_many_tokens")


@pytest.mark.parametrize("example", re.findall(r"curl -s http://[^/]+(/\S+) .*?-d '(.*?)'", DOCS, re.DOTALL))
def test_the_examples_of_the_docs(client: httpx.Client, example: tuple[str, str]) -> None:
    path, body = example
    found = client.post(path, content=body.encode(), headers={"Content-Type": "application/json"})
    assert found.status_code == 200, found.text
