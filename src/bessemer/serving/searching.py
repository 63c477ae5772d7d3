"""Passages and answers from the indexes: /search and /ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.errors import ConfigError
from bessemer.search.reranked import DEPTH, pairs_of, reranked
from bessemer.search.stores.filters import parse_where
from bessemer.search.stores.store import Condition, Filter
from bessemer.serving.embedding import pair_scores
from bessemer.serving.logs import Facts
from bessemer.serving.model import off_loop
from bessemer.serving.refusal import Refusal
from bessemer.serving.service import Service
from bessemer.serving.shapes import AskRequest, ConditionBody, SearchRequest
from bessemer.types import Query


async def search(service: Service, body: SearchRequest, facts: Facts) -> dict[str, Any]:
    """The rows of `bessemer search`. The query is encoded, and reranked, with those of other requests. Raises
    Refusal."""
    if body.rerank and service.pairs is None:
        told = "no cross-encoder is served here; start with `bessemer serve --reranker MODEL`, or send no `rerank`"
        raise Refusal(400, told, "no_reranker")
    name, index, model = await service.index(body.index)
    if body.task is not None and body.task != index.manifest.get("task", ""):
        raise Refusal(422, "the index was built for another task; /info names it", "task")
    where = _conditions(body.where)
    text = Query("", body.query, history=tuple(body.history)).searched_text
    read = await model.read([text], "query", service.limits, facts)
    encoded = await model.encode([text], "query", index.outputs, read)
    depth = max(body.top_k, DEPTH) if body.rerank else body.top_k
    hits = await off_loop(
        service.executor, index.search_encoded, text, encoded, depth, with_tokens=body.explain, where=where
    )
    if body.rerank:
        scores = await pair_scores(service, pairs_of(text, hits), facts)
        hits = reranked(hits, [float(score) for score in scores[0]], body.top_k)
    return {"hits": hits, "index": name, "truncated": read.truncated[0]}


def _conditions(where: Sequence[ConditionBody | str]) -> Filter:
    bodies = [one for one in where if isinstance(one, ConditionBody)]
    try:
        written = parse_where([one for one in where if isinstance(one, str)])
    except ConfigError:  # its message holds the text
        told = "where: write FIELD=VALUE, or !=, >=, <=, > or < in place of ="
        raise Refusal(422, told, "invalid_request") from None
    return (*(Condition(one.field, one.operator, tuple(one.values)) for one in bodies), *written)


async def ask(service: Service, body: AskRequest, facts: Facts) -> Mapping[str, Any]:
    """What `bessemer ask` gives. Raises Refusal."""
    if service.served.ask is None:
        told = "no language model answers here; start with `bessemer serve --llm URL`, or use /search"
        raise Refusal(400, told, "no_language_model")
    names = list(dict.fromkeys(body.index or service.served.indexes))
    models = [(await service.index(name))[2] for name in names]
    where = _conditions(body.where)
    await models[0].read([body.question], "query", service.limits, facts)
    return await service.ask(names, body.question, body.top_k, where)
