"""The frameworks' own Hugging Face classes on a folder that we saved: our vectors, with and without prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handbook import QUESTION, TEXTS
from sentence_transformers import SentenceTransformer

from bessemer.encoders.dense import DenseEncoder

OWN = "Represent this question for searching relevant passages: "
PASSAGES = [text.replace(".", ".\n") for text in TEXTS.values()]
BOTH_NAMED = {
    "encode_kwargs": {"prompt_name": "document", "task": "document"},
    "query_encode_kwargs": {"prompt_name": "query", "task": "query"},
}


class AsLangChainEncodes:
    """What langchain-huggingface 1.2.3 does; it wants huggingface-hub < 2, and so cannot stand beside ours."""

    def __init__(
        self,
        *,
        model_name: str,
        model_kwargs: dict[str, Any],
        encode_kwargs: dict[str, Any] | None = None,
        query_encode_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.model = SentenceTransformer(model_name, **model_kwargs)
        self.of_passages = encode_kwargs or {}
        self.of_queries = query_encode_kwargs or self.of_passages

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._encode(texts, self.of_passages).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        vector: list[float] = self._encode([text], self.of_queries)[0].tolist()
        return vector

    def _encode(self, texts: list[str], options: dict[str, Any]) -> Any:
        return self.model.encode([text.replace("\n", " ") for text in texts], show_progress_bar=False, **options)


def huggingface_of_langchain() -> Any:
    return pytest.importorskip("langchain_huggingface").HuggingFaceEmbeddings


langchain_classes = pytest.mark.parametrize(
    "its_class", [lambda: AsLangChainEncodes, huggingface_of_langchain], ids=["as_it_encodes", "itself"]
)


def opened(its_class: Callable[[], Any], folder: Path, **options: Any) -> Any:
    return its_class()(model_name=str(folder), model_kwargs={"device": "cpu"}, **options)


def llamaindex(folder: Path, **options: Any) -> Any:
    its_class = pytest.importorskip("llama_index.embeddings.huggingface").HuggingFaceEmbedding
    return its_class(str(folder), device="cpu", **options)


def assert_same(found: Any, expected: Any) -> None:
    """Row by row, cosine above 0.9999; so are all other vectors of this file, which have unit length."""
    found, expected = np.atleast_2d(found), np.atleast_2d(expected)
    assert np.sum(found * expected, axis=1).min() > 0.9999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def plainly(folder: Path, text: str) -> Any:
    """As the model reads just this text."""
    return SentenceTransformer(str(folder), device="cpu").encode([text], prompt="")


def test_no_prompt_is_put_before_texts_unasked(prompted_folder: Path, plain_folder: Path) -> None:
    saved = json.loads((prompted_folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    assert saved["default_prompt_name"] is None  # else one that the user gives would stand before ours
    assert saved["prompts"] == {**saved["prompts"], "query": "question: ", "document": "answer: "}
    saved = json.loads((plain_folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    assert (saved["default_prompt_name"], saved["prompts"]) == (None, {"query": "", "document": ""})


@langchain_classes
def test_langchain_without_prompts(its_class: Callable[[], Any], plain_folder: Path, minilm: DenseEncoder) -> None:
    embeddings = opened(its_class, plain_folder)
    assert_same(embeddings.embed_documents(PASSAGES), minilm.encode_passages(PASSAGES).dense)
    assert_same(embeddings.embed_query(QUESTION), minilm.encode_queries([QUESTION]).dense)


@langchain_classes
def test_langchain_with_prompts_by_name(
    its_class: Callable[[], Any], prompted_folder: Path, prompted: DenseEncoder
) -> None:
    embeddings = opened(its_class, prompted_folder, **BOTH_NAMED)
    assert_same(embeddings.embed_documents(PASSAGES), prompted.encode_passages(PASSAGES).dense)
    assert_same(embeddings.embed_query(QUESTION), prompted.encode_queries([QUESTION]).dense)


@langchain_classes
def test_langchain_reads_queries_as_far_as_the_model_does(
    its_class: Callable[[], Any], prompted: DenseEncoder, tmp_path: Path
) -> None:
    short = prompted.for_task("", query_max_length=8)
    short.save(tmp_path / "short")
    embeddings = opened(its_class, tmp_path / "short", **BOTH_NAMED)
    assert_same(embeddings.embed_query(QUESTION), short.encode_queries([QUESTION]).dense)
    assert short.n_truncated["query"] == 1
    assert_same(embeddings.embed_documents(PASSAGES), short.encode_passages(PASSAGES).dense)


@langchain_classes
def test_langchain_with_a_prompt_of_the_users(its_class: Callable[[], Any], prompted_folder: Path) -> None:
    """Given as an option or put before the text by hand, as HuggingFaceBgeEmbeddings does: it stands there alone."""
    expected = plainly(prompted_folder, OWN + QUESTION)
    given = opened(its_class, prompted_folder, query_encode_kwargs={"prompt": OWN})
    assert_same(given.embed_query(QUESTION), expected)
    both = opened(its_class, prompted_folder, query_encode_kwargs={"prompt": OWN, "prompt_name": "query"})
    assert_same(both.embed_query(QUESTION), expected)
    assert_same(opened(its_class, prompted_folder).embed_query(OWN + QUESTION), expected)


def test_llamaindex_without_prompts(plain_folder: Path, minilm: DenseEncoder) -> None:
    embedding = llamaindex(plain_folder)
    assert_same(embedding.get_text_embedding_batch(PASSAGES), minilm.encode_passages(PASSAGES).dense)
    assert_same(embedding.get_query_embedding(QUESTION), minilm.encode_queries([QUESTION]).dense)


def test_llamaindex_with_the_models_prompts(prompted_folder: Path, prompted: DenseEncoder) -> None:
    prompts = prompted.model.prompts
    embedding = llamaindex(prompted_folder, query_instruction=prompts["query"], text_instruction=prompts["document"])
    assert_same(embedding.get_text_embedding_batch(PASSAGES), prompted.encode_passages(PASSAGES).dense)
    assert_same(embedding.get_query_embedding(QUESTION), prompted.encode_queries([QUESTION]).dense)


def test_llamaindex_with_a_prompt_of_the_users(prompted_folder: Path) -> None:
    embedding = llamaindex(prompted_folder, query_instruction=OWN)
    assert_same(embedding.get_query_embedding(QUESTION), plainly(prompted_folder, OWN + QUESTION))


def test_llamaindex_leaves_prompts_out_that_it_is_not_given(prompted_folder: Path) -> None:
    """It lays empty ones over those of the folder: docs/clients.md says what to do."""
    assert_same(llamaindex(prompted_folder).get_query_embedding(QUESTION), plainly(prompted_folder, QUESTION))
