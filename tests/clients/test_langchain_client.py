from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handbook import QUESTION, TEXTS

pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from bessemer import open_index
from bessemer.clients.langchain import BessemerEmbeddings, BessemerRetriever
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import ArtifactError, ConfigError

asynchronous = pytest.mark.asyncio  # of pytest-asyncio, which langchain-tests brings
quiet = pytest.mark.filterwarnings("ignore:.*is marked with '@pytest.mark.asyncio'")


class OfThePromptedModel:
    embeddings_class = BessemerEmbeddings

    @pytest.fixture(autouse=True)
    def _model_of_the_test(self, prompted: DenseEncoder) -> None:
        self.embedding_model_params = {"model": prompted}


class TestEmbeddingsAsLangChainWantsThem(OfThePromptedModel, EmbeddingsUnitTests):
    embedding_model_params: dict[str, Any] = {}  # noqa: RUF012


@asynchronous
@quiet
class TestEmbeddingsAtWork(OfThePromptedModel, EmbeddingsIntegrationTests):
    embedding_model_params: dict[str, Any] = {}  # noqa: RUF012


@asynchronous
@quiet
class TestRetrieverAtWork(RetrieversIntegrationTests):
    retriever_constructor = BessemerRetriever
    retriever_query_example = QUESTION
    num_results_arg_name = "top_k"
    retriever_constructor_params: dict[str, Any] = {}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _index_of_the_test(self, index_folder: Path) -> None:
        self.retriever_constructor_params = {"location": str(index_folder)}


def test_each_side_has_its_prompt(prompted: DenseEncoder) -> None:
    embeddings = BessemerEmbeddings(prompted)
    texts = list(TEXTS.values())
    np.testing.assert_allclose(embeddings.embed_documents(texts), prompted.encode_passages(texts).dense, atol=1e-5)
    query = prompted.encode_queries([QUESTION]).dense
    assert query is not None
    np.testing.assert_allclose(embeddings.embed_query(QUESTION), query[0], atol=1e-5)
    np.testing.assert_allclose(asyncio.run(embeddings.aembed_query(QUESTION)), query[0], atol=1e-5)
    assert np.dot(embeddings.embed_query(QUESTION), embeddings.embed_documents([QUESTION])[0]) < 0.999
    assert embeddings.embed_documents([]) == []


def test_a_folder_is_loaded_as_bessemer_loads_it(prompted: DenseEncoder, prompted_folder: Path) -> None:
    query = prompted.encode_queries([QUESTION]).dense
    assert query is not None
    assert np.dot(BessemerEmbeddings(prompted_folder).embed_query(QUESTION), query[0]) > 0.999  # bf16 where there is


def test_texts_that_are_cut_are_told_of(prompted: DenseEncoder, caplog: pytest.LogCaptureFixture) -> None:
    embeddings = BessemerEmbeddings(prompted.for_task("", max_length=16))
    with caplog.at_level(logging.WARNING):
        embeddings.embed_documents(["short", "a long text " * 10])
    assert "1 of 2 passage texts were too long" in caplog.text


def test_a_document_says_how_it_was_found(index_folder: Path) -> None:
    best, second = BessemerRetriever(location=index_folder, top_k=2).invoke(QUESTION)
    hits = open_index(index_folder).search(QUESTION, 2)
    assert (best.id, best.page_content) == ("coats", f"Handbook\n{TEXTS['coats']}")
    for document, hit in zip((best, second), hits, strict=True):
        for key in ("passage_id", "doc_id", "score", "lanes"):
            assert document.metadata[key] == hit[key]


def test_what_is_asked_of_one_search_wins(index_folder: Path) -> None:
    retriever = BessemerRetriever(location=str(index_folder), top_k=1, search_kwargs={"top_k": 2, "with_tokens": True})
    assert [len(retriever.invoke(QUESTION)), len(retriever.invoke(QUESTION, top_k=3))] == [2, 3]
    assert "explain" in retriever.invoke(QUESTION)[0].metadata
    assert len(asyncio.run(retriever.ainvoke(QUESTION, top_k=4))) == 4


def test_in_a_chain_and_from_many_threads(index_folder: Path) -> None:
    retriever = BessemerRetriever(location=str(index_folder), top_k=1)
    first = RunnableLambda(lambda documents: documents[0].id)
    questions = [QUESTION, "When does Leeds open?", "How many days of leave are there?"] * 4
    expected = ["coats", "office", "leave"] * 4
    assert (retriever | first).batch(questions, {"max_concurrency": 4}) == expected
    with ThreadPoolExecutor(4) as pool:
        assert [found[0].id for found in pool.map(retriever.invoke, questions)] == expected


def test_in_a_vector_store(prompted: DenseEncoder) -> None:
    store = InMemoryVectorStore(BessemerEmbeddings(prompted))
    store.add_documents([Document(text, id=name) for name, text in TEXTS.items()])
    assert store.similarity_search(QUESTION, k=1)[0].id == "coats"


def test_errors_are_ours(index_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        BessemerRetriever(location=str(tmp_path / "nowhere"))
    with pytest.raises(ArtifactError, match="built for the task"):
        BessemerRetriever(location=str(index_folder), task="qa")
    with pytest.raises(ConfigError, match="no such folder"):
        BessemerEmbeddings(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="the query is empty"):
        BessemerRetriever(location=str(index_folder)).invoke(" ")
