"""LlamaIndex: a model of ours as an embedding, an index of ours as a retriever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding, SimilarityMode
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode
except ImportError as error:
    raise ImportError(
        'bessemer.clients.llamaindex needs llama-index-core: pip install "bessemer[llamaindex]"'
    ) from error

from bessemer.clients.in_process import InProcessIndex, InProcessModel

if TYPE_CHECKING:
    from bessemer.encoders.dense import DenseEncoder

OF_THE_SEARCH = ("passage_id", "score", "lanes", "explain")
"""Metadata that say how a passage was found: neither a language model nor an embedding is to read them."""


class BessemerEmbedding(BaseEmbedding):
    """Vectors of a model: of queries with the query prompt, of texts with the passage prompt."""

    fingerprint: str = Field(description="Of the model: an ingestion cache keeps models of one name apart by it.")
    embed_batch_size: int = Field(default=256, gt=0, le=2048, description="Texts per call; sorted by length within.")
    _model: InProcessModel = PrivateAttr()

    def __init__(self, model: str | Path | DenseEncoder, **fields: Any) -> None:
        """``model``: a folder, an alias such as minilm, a hub name, or what `load_encoder` gave. ``fields`` are those
        of BaseEmbedding. Raises ConfigError where there is no such model."""
        loaded = InProcessModel(model)
        super().__init__(**{"model_name": loaded.encoder.name, "fingerprint": loaded.encoder.fingerprint, **fields})
        self._model = loaded

    @classmethod
    def class_name(cls) -> str:
        return "BessemerEmbedding"

    def similarity(
        self, embedding1: list[float], embedding2: list[float], mode: SimilarityMode = SimilarityMode.DEFAULT
    ) -> float:
        """The model's own similarity, cosine or dot product, unless ``mode`` names another than the default."""
        if mode == SimilarityMode.DEFAULT and self._model.encoder.similarity == "dot":
            mode = SimilarityMode.DOT_PRODUCT
        return float(super().similarity(embedding1, embedding2, mode))

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._model.query(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._model.passages([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._model.passages(texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class BessemerRetriever(BaseRetriever):
    """The passages that an index finds, as text nodes with scores.

    A node has the passage's id and text, its document as source, and as metadata ``passage_id``, ``doc_id``, ``score``,
    ``lanes`` (rank and score in each lane) and the passage's own; of the first four a language model is shown only the
    document.
    """

    def __init__(
        self,
        location: str | Path,
        top_k: int = 10,
        task: str | None = None,
        search_kwargs: Mapping[str, Any] | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """``task``: which the index must have been built for. ``search_kwargs``: further arguments of `Index.search`.
        Raises ArtifactError where ``location`` has no index, or one of another model or task."""
        super().__init__(callback_manager)
        self._index = InProcessIndex(location, task)
        self._options = {"top_k": top_k, **(search_kwargs or {})}

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._index.search(query_bundle.query_str, **self._options)
        return [NodeWithScore(node=_node(text, metadata), score=metadata["score"]) for text, metadata in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(text: str, metadata: dict[str, Any]) -> TextNode:
    return TextNode(
        id_=metadata["passage_id"],
        text=text,
        metadata=metadata,
        excluded_llm_metadata_keys=list(OF_THE_SEARCH),
        excluded_embed_metadata_keys=list(OF_THE_SEARCH),
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=metadata["doc_id"])},
    )
