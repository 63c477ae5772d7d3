"""Texts to vectors: /v1/embeddings, /embed_sparse and /rerank."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.pair_scores import score_pairs
from bessemer.encoders.unified_settings import LaneWeights
from bessemer.search.encoded_texts import unified_in
from bessemer.search.retriever import unit_length
from bessemer.serving.logs import Facts
from bessemer.serving.model import off_loop
from bessemer.serving.refusal import Refusal
from bessemer.serving.service import Service
from bessemer.serving.shapes import EmbeddingsRequest, RerankRequest, SparseRequest


async def embeddings(service: Service, body: EmbeddingsRequest, facts: Facts) -> dict[str, Any]:
    """Dense vectors, as OpenAI's API has them. Raises Refusal."""
    model = service.model
    if "dense" not in model.outputs:
        raise Refusal(400, "the model gives no dense vectors; see /info", "no_dense")
    width = _width(service, body.dimensions)
    texts = _listed(body.input)
    read = await model.read(texts, body.input_type, service.limits, facts)
    encoded = await model.encode(texts, body.input_type, ("dense",), read)
    assert encoded.dense is not None
    vectors = _finite(_cut(encoded.dense, width, service.served.encoder.similarity))
    rows = vectors.tolist() if body.encoding_format == "float" else map(_base64, vectors)
    told = zip(rows, read.truncated, strict=True)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": row, "truncated": cut} for i, (row, cut) in enumerate(told)
        ],
        "model": model.name,
        "usage": _usage(read.n_tokens),
    }


async def embed_sparse(service: Service, body: SparseRequest, facts: Facts) -> dict[str, Any]:
    """Weights over the vocabulary. Raises Refusal."""
    model = service.model
    if "sparse" not in model.outputs:
        raise Refusal(400, "the model gives no sparse vectors; a unified or a sparse one does", "no_sparse")
    texts = _listed(body.input)
    read = await model.read(texts, body.input_type, service.limits, facts)
    sparse = (await model.encode(texts, body.input_type, ("sparse",), read)).sparse
    assert sparse is not None
    _finite(sparse.data)
    spans = zip(sparse.indptr[:-1], sparse.indptr[1:], read.truncated, strict=True)
    return {
        "data": [
            {
                "index": i,
                "indices": sparse.indices[start:stop].tolist(),
                "values": sparse.data[start:stop].tolist(),
                "truncated": cut,
            }
            for i, (start, stop, cut) in enumerate(spans)
        ],
        "model": model.name,
        "usage": _usage(read.n_tokens),
    }


async def rerank(service: Service, body: RerankRequest, facts: Facts) -> dict[str, Any]:
    """Passages by their score with the query: the cross-encoder's, else the model's own. Raises Refusal."""
    score = _by_cross_encoder if service.pairs is not None else _by_encoder
    scores, truncated = await score(service, body, facts)
    best = np.argsort(-_finite(scores), kind="stable")[: body.top_n]
    return {
        "results": [
            {"index": int(i), "relevance_score": float(scores[i]), "truncated": bool(truncated[i])} for i in best
        ],
        "model": service.reranker_name or service.model.name,
        "usage": _usage(facts.tokens),
    }


Scored = tuple[NDArray[np.float64], list[bool]]


async def _by_encoder(service: Service, body: RerankRequest, facts: Facts) -> Scored:
    """By all that the model gives: of a unified model the ensemble."""
    model = service.model
    queries = await model.read([body.query], "query", service.limits, facts)
    passages = await model.read(body.passages, "passage", service.limits, facts)
    query = await model.encode([body.query], "query", model.outputs, queries)
    encoded = await model.encode(body.passages, "passage", model.outputs, passages)
    rows = np.arange(len(body.passages), dtype=np.int64)
    unified = unified_in(model.encoder)
    weights = unified.lane_weights if unified else LaneWeights(1.0, 1.0, 1.0)
    found = await off_loop(service.executor, score_pairs, query, encoded, np.zeros_like(rows), rows, weights)
    return found.ensemble, [cut or queries.truncated[0] for cut in passages.truncated]


async def _by_cross_encoder(service: Service, body: RerankRequest, facts: Facts) -> Scored:
    return await pair_scores(service, [(body.query, passage) for passage in body.passages], facts)


async def pair_scores(service: Service, pairs: Sequence[tuple[str, str]], facts: Facts) -> Scored:
    """Of pairs of one query, by the cross-encoder, and whether each was cut. Tokens are counted by the embedding
    model's tokenizer: near enough for limits and batches. Raises Refusal."""
    assert service.pairs is not None
    if not pairs:
        return np.zeros(0), []
    query = await service.model.read([pairs[0][0]], "query", service.limits, facts)
    passages = await service.model.read([passage for _, passage in pairs], "passage", service.limits, facts)
    found = await service.batcher.run(service.pairs, pairs, [query.tokens[0] + n for n in passages.tokens])
    return _finite(found[:, 0]), [bool(cut) for cut in found[:, 1]]


def _width(service: Service, asked: int | None) -> int | None:
    own, widths = service.served.encoder.dimension, service.served.widths
    if asked is None or asked == own or asked in widths:
        return asked
    known = f"it was trained for {', '.join(map(str, widths))}" if widths else "it was not trained to be cut"
    raise Refusal(400, f"dimensions {asked}: the model has {own}, and {known}", "dimensions")


def _cut(vectors: NDArray[np.float32], width: int | None, similarity: str) -> NDArray[np.float32]:
    """The first ``width`` numbers, at unit length again where the model compares by cosine."""
    if width is None or width == vectors.shape[1]:
        return vectors
    return unit_length(vectors[:, :width]) if similarity == "cosine" else vectors[:, :width]


def _finite(numbers: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(numbers).all():
        raise not_finite()
    return numbers


def not_finite() -> Refusal:
    return Refusal(500, "the model gives numbers that are not finite; its weights are damaged", "not_finite")


def _listed(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _usage(n_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
