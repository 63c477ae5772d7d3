"""LangChain: a model of ours as `Embeddings`, an index of ours as a retriever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from pydantic import Field, PrivateAttr
except ImportError as error:
    raise ImportError('bessemer.clients.langchain needs langchain-core: pip install "bessemer[langchain]"') from error

from bessemer.clients.in_process import InProcessIndex, InProcessModel

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun

    from bessemer.encoders.dense import DenseEncoder


class BessemerEmbeddings(Embeddings):
    """Vectors of a model, each side with its own prompt; the asynchronous methods work in a thread.

    Of a model whose similarity is dot the vectors have no unit length: let the vector store compare by inner product.
    """

    def __init__(self, model: str | Path | DenseEncoder) -> None:
        """``model``: a folder, an alias such as minilm, a hub name, or what `load_encoder` gave. Raises ConfigError
        where there is none."""
        self._model = InProcessModel(model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector per passage."""
        return self._model.passages(texts)

    def embed_query(self, text: str) -> list[float]:
        return self._model.query(text)


class BessemerRetriever(BaseRetriever):
    """The passages that an index finds.

    Each Document has the passage's id and text; its metadata are ``passage_id``, ``doc_id``, ``score``, ``lanes`` (rank
    and score in each lane) and the passage's own. What stands in ``search_kwargs``, or is given to ``invoke``, goes to
    `Index.search`: ``retriever.invoke("...", top_k=3)``. Raises ArtifactError where ``location`` has no index, or one
    of another model or task.
    """

    location: str | Path
    """Where the index is."""
    top_k: int = 10
    """How many passages are returned at most."""
    task: str | None = None
    """The task that the index must have been built for."""
    search_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of `Index.search`."""
    _index: InProcessIndex = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        self._index = InProcessIndex(self.location, self.task)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return self._found(query, options)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return await asyncio.to_thread(self._found, query, options)

    def _found(self, query: str, options: dict[str, Any]) -> list[Document]:
        found = self._index.search(query, **{"top_k": self.top_k, **self.search_kwargs, **options})
        return [Document(id=metadata["passage_id"], page_content=text, metadata=metadata) for text, metadata in found]
