"""A query to an index, perhaps with a cross-encoder after it."""

from __future__ import annotations

from typing import Any

from bessemer.config import Config
from bessemer.search.index import open_index
from bessemer.search.stores.store import Filter


def search(
    config: Config,
    location: str,
    query: str,
    top_k: int = 10,
    task: str | None = None,
    *,
    with_tokens: bool = False,
    where: Filter = (),
    reranker: str | None = None,
) -> list[dict[str, Any]]:
    """As `Index.search`; ``reranker``: the folder or hub name of a cross-encoder. Raises ConfigError where there is
    none, and what `open_index` raises."""
    index = open_index(location, task=task, **config.runtime)
    if reranker is None:
        return index.search(query, top_k, with_tokens=with_tokens, where=where)
    from bessemer.search.rerank import CrossEncoderReranker  # torch: an index of a CPU build needs none

    by = CrossEncoderReranker(reranker, config.device)
    return index.search(query, top_k, with_tokens=with_tokens, where=where, reranker=by)
