"""What the service tells of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bessemer.search.index import Index
from bessemer.serving.service import Service

LIMITS = (
    "max_body_bytes", "max_items", "max_request_tokens", "queue_requests", "queue_tokens", "read_seconds",
    "request_seconds",
)  # fmt: skip


def information(service: Service) -> dict[str, Any]:
    """Model, indexes, limits and versions. No paths: names alone."""
    served, encoder = service.served, service.served.encoder
    return {
        "model": {
            "name": served.name,
            "fingerprint": service.fingerprint,
            "outputs": list(served.outputs),
            "similarity": encoder.similarity,
            "dimension": encoder.dimension,
            "dimensions": list(served.widths),
            "max_length": encoder.max_length,
            "query_max_length": encoder.query_max_length,
        },
        "indexes": [_of_index(name, index) for name, index in served.indexes.items()],
        "reranker": service.reranker_name,
        "ask": served.ask is not None,
        "feedback": service.feedback is not None,
        "limits": {name: getattr(service.config, name) for name in LIMITS},
        "versions": dict(served.versions),
    }


def model_cards(service: Service) -> dict[str, Any]:
    card = {"id": service.served.name, "object": "model", "created": 0, "owned_by": "bessemer"}
    return {"object": "list", "data": [card]}


def _of_index(name: str, index: Index) -> dict[str, Any]:
    kept = ("fingerprint", "n_passages", "dimension", "lanes", "task", "engine", "created")
    facts = {key: index.manifest[key] for key in kept if key in index.manifest}
    return {"name": name, "model": Path(index.manifest["model"]).name, **facts}
