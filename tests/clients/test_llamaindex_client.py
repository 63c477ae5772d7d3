from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from handbook import QUESTION, TEXTS

pytest.importorskip("llama_index.core")

from llama_index.core.base.embeddings.base import SimilarityMode
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, QueryBundle, TextNode
from sentence_transformers import SentenceTransformer

from bessemer import open_index
from bessemer.clients.llamaindex import BessemerEmbedding, BessemerRetriever
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import ArtifactError, ConfigError


@pytest.fixture
def embedding(prompted: DenseEncoder) -> BessemerEmbedding:
    return BessemerEmbedding(prompted, embed_batch_size=3)


def test_each_side_has_its_prompt(embedding: BessemerEmbedding, prompted: DenseEncoder) -> None:
    texts = list(TEXTS.values())
    passages, query = prompted.encode_passages(texts).dense, prompted.encode_queries([QUESTION]).dense
    assert passages is not None
    assert query is not None
    np.testing.assert_allclose(embedding.get_text_embedding_batch(texts), passages, atol=1e-5)  # in two batches
    np.testing.assert_allclose(embedding.get_text_embedding(texts[0]), passages[0], atol=1e-5)
    np.testing.assert_allclose(embedding.get_query_embedding(QUESTION), query[0], atol=1e-5)
    np.testing.assert_allclose(embedding.get_agg_embedding_from_queries([QUESTION, QUESTION]), query[0], atol=1e-5)


def test_asynchronous_methods_give_the_same(embedding: BessemerEmbedding) -> None:
    texts = list(TEXTS.values())

    async def both() -> tuple[list[list[float]], list[float], list[float]]:
        return (
            await embedding.aget_text_embedding_batch(texts),
            await embedding.aget_query_embedding(QUESTION),
            await embedding.aget_text_embedding(texts[0]),
        )

    passages, query, first = asyncio.run(both())
    np.testing.assert_allclose(passages, embedding.get_text_embedding_batch(texts), atol=1e-5)
    np.testing.assert_allclose(query, embedding.get_query_embedding(QUESTION), atol=1e-5)
    np.testing.assert_allclose(first, embedding.get_text_embedding(texts[0]), atol=1e-5)


def test_nodes_are_given_their_vectors(embedding: BessemerEmbedding) -> None:
    nodes = [TextNode(text=text) for text in TEXTS.values()]
    embedding(nodes)
    assert [node.embedding for node in nodes] == embedding.get_text_embedding_batch(list(TEXTS.values()))


def test_similarity_is_the_models_own(prompted_folder: Path) -> None:
    model = SentenceTransformer(str(prompted_folder), device="cpu", similarity_fn_name="dot")
    dot, cosine = BessemerEmbedding(DenseEncoder(model, "dot")), BessemerEmbedding(prompted_folder)
    assert dot.similarity([3.0, 4.0], [1.0, 0.0]) == 3.0
    assert cosine.similarity([3.0, 4.0], [1.0, 0.0]) == pytest.approx(0.6)
    assert dot.similarity([3.0, 4.0], [3.0, 0.0], SimilarityMode.EUCLIDEAN) == -4.0


def test_a_cache_does_not_mix_models_of_one_name(minilm: DenseEncoder, prompted: DenseEncoder) -> None:
    nodes, cache = [TextNode(text=TEXTS["coats"])], IngestionCache()
    vectors = [
        IngestionPipeline(transformations=[BessemerEmbedding(model, model_name="tuned")], cache=cache)
        .run(nodes=nodes)[0]
        .embedding
        for model in (minilm, prompted, prompted)
    ]
    assert vectors[0] != vectors[1]
    assert vectors[1] == vectors[2]
    assert len(cache.cache.get_all(cache.collection)) == 2


def test_another_process_can_be_given_it(embedding: BessemerEmbedding) -> None:
    other = pickle.loads(pickle.dumps(embedding))
    assert other.get_query_embedding(QUESTION) == embedding.get_query_embedding(QUESTION)


def test_it_tells_its_name(embedding: BessemerEmbedding, prompted: DenseEncoder) -> None:
    assert embedding.to_payload() == {
        "class_name": "BessemerEmbedding",
        "model_name": prompted.name,
        "embed_batch_size": 3,
    }


def test_a_node_says_how_it_was_found(index_folder: Path) -> None:
    found = BessemerRetriever(index_folder, top_k=2).retrieve(QUESTION)
    for node, hit in zip(found, open_index(index_folder).search(QUESTION, 2), strict=True):
        assert (node.node.node_id, node.score, node.text) == (hit["passage_id"], hit["score"], hit["text"])
        assert node.node.ref_doc_id == hit["doc_id"]
        assert node.node.metadata["lanes"] == hit["lanes"]
    shown = found[0].node.get_content(MetadataMode.LLM)
    assert shown == f"doc_id: coats.md\n\nHandbook\n{TEXTS['coats']}"


def test_asked_in_every_way(index_folder: Path) -> None:
    retriever = BessemerRetriever(index_folder, top_k=1)
    assert retriever.retrieve(QueryBundle(QUESTION))[0].node.node_id == "coats"
    assert asyncio.run(retriever.aretrieve(QUESTION))[0].node.node_id == "coats"
    with ThreadPoolExecutor(4) as pool:
        assert {found[0].node.node_id for found in pool.map(retriever.retrieve, [QUESTION] * 8)} == {"coats"}
    explained = BessemerRetriever(index_folder, search_kwargs={"with_tokens": True}).retrieve(QUESTION)
    assert "explain" in explained[0].node.metadata


def test_in_a_query_engine(index_folder: Path) -> None:
    engine = RetrieverQueryEngine.from_args(BessemerRetriever(index_folder, top_k=1), llm=MockLLM())
    answer = engine.query(QUESTION)
    assert [source.node.node_id for source in answer.source_nodes] == ["coats"]
    assert TEXTS["coats"] in str(answer)  # this LLM repeats its prompt


def test_errors_are_ours(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        BessemerRetriever(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no such folder"):
        BessemerEmbedding(tmp_path / "nowhere")
