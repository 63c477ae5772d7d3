"""The routes, and what stands before them: log, key, limits."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from bessemer.errors import ArtifactError, BessemerError, BudgetError, ConfigError, DataError, EngineError, ServiceError
from bessemer.printing import printable
from bessemer.serving import shapes
from bessemer.serving.embedding import embed_sparse, embeddings, not_finite, rerank
from bessemer.serving.feedback import feedback
from bessemer.serving.information import information, model_cards
from bessemer.serving.keys import Keyed, Keys
from bessemer.serving.limits import Limited
from bessemer.serving.logs import Logged, facts_of
from bessemer.serving.page import page
from bessemer.serving.refusal import Refusal, unforeseen
from bessemer.serving.searching import ask, search
from bessemer.serving.service import Service

logger = logging.getLogger("bessemer.serve")

_FAULTS = {
    400: "This service cannot do it",
    401: "No key, or a wrong one",
    408: "The body came too slowly",
    413: "The body is too large",
    422: "The request is wrong",
    429: "Too much is waiting; see Retry-After",
    500: "A fault of the service",
    503: "Not at the moment",
    504: "It took too long",
}


def create_app(service: Service, keys: Keys | None) -> ASGIApp:
    """All of the service as one ASGI application. Nothing is read of a request whose key is not known."""
    app = _routes(service, with_keys=keys is not None)
    config = service.config
    limited = Limited(app, config.max_body_bytes, config.read_seconds, config.request_seconds)
    paths = {getattr(route, "path", "") for route in app.routes}
    return Logged(Keyed(limited, keys), paths, service.metrics.request)


def _routes(service: Service, *, with_keys: bool) -> FastAPI:
    app = FastAPI(
        title="Bessemer",
        version=service.served.versions.get("bessemer", "0"),
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        responses={status: {"model": shapes.ErrorAnswer, "description": told} for status, told in _FAULTS.items()},
    )
    keyed = [Depends(HTTPBearer(auto_error=False))] if with_keys else []  # for the schema; `Keyed` is what checks

    @app.post("/v1/embeddings", response_model=shapes.EmbeddingsAnswer, dependencies=keyed)
    async def post_embeddings(request: Request, body: shapes.EmbeddingsRequest) -> Response:
        """Dense vectors, in the shapes of OpenAI's API."""
        return _json(await embeddings(service, body, facts_of(request.scope)))

    @app.get("/v1/models", response_model=shapes.ModelsAnswer, dependencies=keyed)
    async def get_models() -> Response:
        """The model, as OpenAI's API lists it."""
        return _json(model_cards(service))

    @app.post("/embed_sparse", response_model=shapes.SparseAnswer, dependencies=keyed)
    async def post_embed_sparse(request: Request, body: shapes.SparseRequest) -> Response:
        """Sparse vectors, of unified and sparse models."""
        return _json(await embed_sparse(service, body, facts_of(request.scope)))

    @app.post("/rerank", response_model=shapes.RerankAnswer, dependencies=keyed)
    async def post_rerank(request: Request, body: shapes.RerankRequest) -> Response:
        """Passages (`passages`, or `documents`) by their relevance for a query."""
        return _json(await rerank(service, body, facts_of(request.scope)))

    @app.post("/search", response_model=shapes.SearchAnswer, dependencies=keyed)
    async def post_search(request: Request, body: shapes.SearchRequest) -> Response:
        """The best passages of an index, with the lanes that found them."""
        return _json(await search(service, body, facts_of(request.scope)))

    @app.post("/ask", response_model=shapes.AskAnswer, dependencies=keyed)
    async def post_ask(request: Request, body: shapes.AskRequest) -> Response:
        """An answer from the passages, with citations."""
        return _json(await ask(service, body, facts_of(request.scope)))

    @app.post("/feedback", response_model=shapes.Kept, dependencies=keyed)
    async def post_feedback(request: Request, body: shapes.FeedbackRequest) -> Response:
        """Whether a passage helped, into the file of `--feedback`."""
        return _json(await feedback(service, body, facts_of(request.scope)))

    @app.get("/health", response_model=shapes.Health)
    async def get_health() -> Response:
        """Whether the service takes requests."""
        if not service.batcher.is_alive:
            raise Refusal(503, "the model's thread has ended; start the service again", "not_alive")
        return _json({"status": "ok"})

    app.head("/health", include_in_schema=False)(get_health)  # as some load balancers ask

    @app.get("/info", response_model=shapes.Info, dependencies=keyed)
    async def get_info() -> Response:
        """Model, indexes, limits and versions."""
        return _json(information(service))

    @app.get("/metrics", response_class=_PrometheusText, dependencies=keyed)
    async def get_metrics() -> Response:
        """Figures for Prometheus."""
        return _PrometheusText(service.metrics.text())

    @app.get("/", response_class=HTMLResponse)
    async def get_page() -> Response:
        """A page for people."""
        return HTMLResponse(*page())

    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


class _PrometheusText(Response):
    media_type = "text/plain; version=0.0.4; charset=utf-8"


def _json(value: Mapping[str, Any]) -> Response:
    """Strict: a number that is not finite is a fault of ours, and never null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise not_finite() from None
    return Response(text.encode("utf-8", "replace"), media_type="application/json")


async def _refused(_: Request, error: Any) -> Response:
    response: Response = error.response()
    return response


async def _invalid(_: Request, error: Any) -> Response:
    """Where and what, never the value: it may be a text."""
    faults = [f"{'.'.join(map(str, fault['loc'][1:])) or 'body'}: {_reason(fault)}" for fault in error.errors()[:5]]
    return Refusal(422, "; ".join(faults), "invalid_request").response()


def _reason(fault: Mapping[str, Any]) -> str:
    return "not valid JSON" if fault["type"] == "json_invalid" else str(fault["msg"])


async def _of_http(_: Request, error: Any) -> Response:
    """No such path, no such method, a body that is no JSON at all."""
    return Refusal(error.status_code, str(error.detail), "http", error.headers).response()


async def _of_bessemer(request: Request, error: Any) -> Response:
    """Messages for an operator name paths: they go to the log, and the client is told the kind alone."""
    told = {"id": facts_of(request.scope).request_id, "error": type(error).__name__, "message": printable(str(error))}
    logger.error(json.dumps(told, ensure_ascii=False))
    if isinstance(error, ConfigError):
        return Refusal(422, "the request cannot be done with this model or index", "unusable").response()
    if isinstance(error, ArtifactError | DataError):
        return not_finite().response()
    if isinstance(error, EngineError):
        return Refusal(503, "the engine that holds the index fails; see the log of the service", "engine").response()
    kind = "the budget of the language model" if isinstance(error, BudgetError) else "the language model"
    if isinstance(error, ServiceError | BudgetError):
        return Refusal(503, f"{kind} is used up or fails; /search works without it", "language_model").response()
    return Refusal(500, "a fault of the service; see its log", "internal").response()


async def _unforeseen(_: Request, __: Exception) -> Response:
    """`Logged` writes its place."""
    return unforeseen().response()


_HANDLERS: Mapping[type[Exception], Any] = {
    Refusal: _refused,
    RequestValidationError: _invalid,
    HTTPException: _of_http,
    BessemerError: _of_bessemer,
    Exception: _unforeseen,
}
