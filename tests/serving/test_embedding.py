"""Vectors over real sockets are the library's own."""

from __future__ import annotations

import base64
import json
import re
import runpy
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from openai import OpenAI
from served import DOCUMENTS, Gated, error_of, running, soon, waiting

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import OUTPUTS
from bessemer.encoders.load import load_encoder
from bessemer.encoders.widths import widths_of
from bessemer.search.rerank import CrossEncoderReranker
from bessemer.serving.service import Served
from lane_models import unified_minilm, write_cross_encoder, write_sparse

TEXTS = [*DOCUMENTS.values(), "pump", "", "How often may the pump start?", "x " * 400]


def vectors(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.array([row["embedding"] for row in response.json()["data"]])


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.einsum("nd,nd->n", one, other) / norms


@pytest.mark.parametrize("side", ["query", "passage"])
def test_vectors_are_the_librarys(client: httpx.Client, minilm: DenseEncoder, side: str) -> None:
    found = client.post("/v1/embeddings", json={"input": TEXTS, "input_type": side, "model": "whatever"})
    own = (minilm.encode_queries if side == "query" else minilm.encode_passages)(TEXTS).dense
    assert own is not None
    assert cosines(vectors(found), own).min() > 0.9999
    rows = found.json()["data"]
    assert [row["index"] for row in rows] == list(range(len(TEXTS)))
    assert [row["truncated"] for row in rows] == [False] * (len(TEXTS) - 1) + [True]
    n_tokens = sum(map(len, minilm.tokenize(TEXTS, "passage")))
    assert found.json()["usage"] == {"prompt_tokens": n_tokens, "total_tokens": n_tokens}


def test_whatever_the_neighbours(client: httpx.Client, minilm: DenseEncoder) -> None:
    """32 clients at once, of texts of all lengths; each alone in the library."""
    texts = [" ".join(TEXTS[i % 4].split()[: 1 + i]) for i in range(32)]
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda text: vectors(client.post("/v1/embeddings", json={"input": text}))[0], texts))
    alone = np.stack([minilm.encode_passages([text]).dense[0] for text in texts])  # type: ignore[index]
    assert cosines(np.stack(found), alone).min() > 0.9999


def test_the_openai_client(client: httpx.Client, minilm: DenseEncoder) -> None:
    openai = OpenAI(base_url=f"{client.base_url}/v1", api_key="none", http_client=httpx.Client(trust_env=False))
    own = minilm.encode_passages(TEXTS).dense
    assert own is not None
    packed = openai.embeddings.create(input=TEXTS, model="any")  # base64, of its own accord
    plain = openai.embeddings.create(input=TEXTS[0], model="any", encoding_format="float", dimensions=384)
    assert cosines(np.array([row.embedding for row in packed.data]), own).min() > 0.9999
    assert cosines(np.array([plain.data[0].embedding]), own[:1]).min() > 0.9999
    assert [model.id for model in openai.models.list()] == ["minilm"]


def test_the_example_of_the_openai_client(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["openai_client.py", str(client.base_url)])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "openai_client.py"), run_name="__main__")
    coat, office = (float(score) for score in re.findall(r"^(-?\d\.\d{3})  ", capsys.readouterr().out, re.MULTILINE))
    assert coat > office


def test_base64_is_little_endian_float32(client: httpx.Client) -> None:
    body = {"input": ["pump", "filter"]}
    packed = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()["data"]
    unpacked = [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in packed]
    np.testing.assert_array_equal(np.stack(unpacked), vectors(client.post("/v1/embeddings", json=body)).astype("f4"))


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_the_way_out(client: httpx.Client, tokens: list[object]) -> None:
    found = client.post("/v1/embeddings", json={"input": tokens})
    assert found.status_code == 400
    assert "check_embedding_ctx_length=False" in error_of(found)["message"]


def test_dimensions_only_of_models_trained_for_them(
    client: httpx.Client, tiny_static_model: Path, tmp_path: Path
) -> None:
    refused = client.post("/v1/embeddings", json={"input": "pump", "dimensions": 64})
    assert refused.status_code == 400
    assert error_of(refused)["message"] == "dimensions 64: the model has 384, and it was not trained to be cut"
    folder = tmp_path / "model"
    shutil.copytree(tiny_static_model, folder)
    (folder / "matryoshka.json").write_text(json.dumps({"matryoshka_dims": [8, 4]}))
    assert widths_of(str(folder)) == (4, 8)
    encoder = load_encoder(str(folder), device="cpu")
    whole = encoder.encode_passages(["w1 w2"]).dense
    assert whole is not None
    with running(Served("cut", encoder, ("dense",), widths_of(str(folder)))) as cut:
        found = vectors(cut.post("/v1/embeddings", json={"input": "w1 w2", "dimensions": 4}))
        np.testing.assert_allclose(found[0], whole[0, :4] / np.linalg.norm(whole[0, :4]), rtol=1e-6)
        refused = cut.post("/v1/embeddings", json={"input": "w1", "dimensions": 5})
        assert "trained for 4, 8" in error_of(refused)["message"]


def test_a_dense_model_has_no_sparse_vectors(client: httpx.Client) -> None:
    refused = client.post("/embed_sparse", json={"input": "pump"})
    assert (refused.status_code, error_of(refused)["code"]) == (400, "no_sparse")


def test_rerank_by_the_models_own_similarity(client: httpx.Client, minilm: DenseEncoder) -> None:
    query, passages = "How is the filter cleaned?", list(DOCUMENTS.values())
    left, right = minilm.encode_queries([query]).dense, minilm.encode_passages(passages).dense
    assert left is not None
    assert right is not None
    scores = right @ left[0]
    for name in ("passages", "documents"):
        found = client.post("/rerank", json={"query": query, name: passages, "top_n": 2}).json()["results"]
        assert [row["index"] for row in found] == np.argsort(-scores)[:2].tolist()
        assert [row["relevance_score"] for row in found] == pytest.approx(np.sort(scores)[::-1][:2], abs=2e-3)
    both = client.post("/rerank", json={"query": query, "passages": passages, "documents": passages})
    assert both.status_code == 422


def test_a_unified_model_gives_sparse_vectors_and_its_ensemble() -> None:
    encoder = unified_minilm()
    texts = list(DOCUMENTS.values())
    with running(Served("unified", encoder, OUTPUTS)) as client:
        rows = client.post("/embed_sparse", json={"input": texts}).json()["data"]
        ranked = client.post("/rerank", json={"query": "motor", "passages": texts}).json()["results"]
    sparse = encoder.encode_passages(texts, ("sparse",)).sparse
    assert sparse is not None
    for i, row in enumerate(rows):
        assert row["indices"] == sparse[[i]].indices.tolist()
        assert row["values"] == pytest.approx(sparse[[i]].data.tolist(), abs=1e-5)
    scores = encoder.compute_score([("motor", text) for text in texts]).ensemble
    assert {row["index"]: row["relevance_score"] for row in ranked} == pytest.approx(dict(enumerate(scores)), abs=1e-4)
    assert [row["index"] for row in ranked] == np.argsort(-scores).tolist()


def test_a_sparse_model_has_no_dense_vectors(tmp_path: Path) -> None:
    from bessemer.encoders.sparse import load_sparse

    encoder = load_sparse(str(write_sparse(tmp_path)), device="cpu")
    with running(Served("splade", encoder, ("sparse",))) as client:
        assert client.post("/v1/embeddings", json={"input": "pump"}).status_code == 400
        row = client.post("/embed_sparse", json={"input": "pump", "input_type": "query"}).json()["data"][0]
    own = encoder.encode_queries(["pump"]).sparse
    assert own is not None
    assert (row["indices"], row["values"]) == (own.indices.tolist(), pytest.approx(own.data.tolist(), rel=1e-5))


def test_rerank_by_a_cross_encoder(static: Served, tmp_path: Path) -> None:
    reranker = CrossEncoderReranker(str(write_cross_encoder(tmp_path)), "cpu")
    passages = ["a pump", "a filter", "water " * 100]
    with running(Served("tiny", static.encoder, ("dense",), reranker=reranker)) as client:
        found = client.post("/rerank", json={"query": "which pump?", "passages": passages}).json()
    scores = reranker([("which pump?", passage) for passage in passages])
    assert {row["index"]: row["relevance_score"] for row in found["results"]} == pytest.approx(dict(enumerate(scores)))
    assert {row["index"]: row["truncated"] for row in found["results"]} == {0: False, 1: False, 2: True}


def test_what_nobody_foresaw_has_the_shape_of_every_fault(
    static: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> list[int]:
        raise ZeroDivisionError("my secret text")

    with running(static) as client:
        monkeypatch.setattr(static.encoder, "lengths", broken)
        failed = client.post("/v1/embeddings", json={"input": "w1"})
    assert (failed.status_code, error_of(failed)["code"]) == (500, "internal")
    assert "test_embedding.py" in caplog.text
    assert '"error": "ZeroDivisionError"' in caplog.text


def test_numbers_that_are_not_finite_are_500_and_spare_the_neighbours(tiny_static_model: Path) -> None:
    """The word w7 is damaged in the weights; w1 is computed together with it."""
    encoder = load_encoder(str(tiny_static_model), device="cpu")
    with torch.no_grad():
        encoder.model[0].embedding.weight[8] = float("nan")  # type: ignore[union-attr, operator, index]
    gated = Gated(encoder)

    def ask(text: str) -> httpx.Response:
        return client.post("/v1/embeddings", json={"input": text})

    with running(Served("damaged", gated, ("dense",))) as client, ThreadPoolExecutor(3) as pool:  # type: ignore[arg-type]
        gated.gate.clear()
        first = pool.submit(ask, "w3")
        soon(lambda: gated.turns[-1] == ["w3"])
        others = [pool.submit(ask, text) for text in ("w1", "w7")]
        soon(lambda: waiting(client) == 2)
        gated.gate.set()
        bad, good = others[1].result(), others[0].result()
        assert sorted(gated.turns[-3]) == ["w1", "w7"]
    assert first.result().status_code == good.status_code == 200
    assert (bad.status_code, error_of(bad)["code"]) == (500, "not_finite")
    assert "null" not in bad.text
    assert "w7" not in bad.text
