"""Models with one tower for queries and another for passages, as sentence-transformers' ``Router`` holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from torch import Tensor, nn

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Side
from bessemer.encoders.runtime import Progress, without_progress_bars
from bessemer.errors import ConfigError

ROUTES: Mapping[Side, str] = {"query": "query", "passage": "document"}


class TwoTowerEncoder(DenseEncoder):
    """A passage tower that also answers for queries, by the query tower. It encodes; training wants a plain model.

    An index is stamped with the passage tower alone: queries of a newly trained query tower need no other index.
    """

    def __init__(self, model: SentenceTransformer, name: str, **options: Any) -> None:
        """``options`` as DenseEncoder's. Raises ConfigError for routers without a query and a document route."""
        super().__init__(_tower(model, "passage", name), name, **options)
        self._query_tower = DenseEncoder(_tower(model, "query", name), name, **options)
        self._query_tower.n_truncated = self.n_truncated
        self.query_max_length = self._query_tower.query_max_length
        self._routed = model

    @property
    def fingerprint(self) -> str:
        towers = f"{self._query_tower.fingerprint}:{super().fingerprint}"
        return hashlib.sha256(towers.encode()).hexdigest()

    def fingerprint_of(self, side: Side) -> str:
        return self._query_tower.fingerprint if side == "query" else super().fingerprint

    def encode(self, texts: Sequence[str], side: Side, progress: Progress | None = None) -> NDArray[np.float32]:
        """Vectors (n, dimension) of texts of one side. Raises ArtifactError if any is not finite."""
        if side == "query":
            return self._query_tower.encode(texts, side, progress)
        return super().encode(texts, side, progress)

    def lengths(self, texts: Sequence[str], side: Side) -> list[int]:
        return self._query_tower.lengths(texts, side) if side == "query" else super().lengths(texts, side)

    def settle_precision(self, texts: Sequence[str], side: Side) -> None:
        if side == "query":
            self._query_tower.settle_precision(texts, side)
        else:
            super().settle_precision(texts, side)

    def precision_of(self, side: Side) -> str:
        return self._query_tower.precision_of(side) if side == "query" else super().precision_of(side)

    def for_task(self, task: str, max_length: int | None = None, query_max_length: int | None = None) -> Self:
        """Itself: its towers have prompts of their own."""
        return self

    def embed(self, features: Mapping[str, Tensor]) -> Tensor:
        raise untrainable(self)

    def save(self, folder: str | Path) -> None:
        with without_progress_bars():
            self._routed.save(str(folder), safe_serialization=True)


def untrainable(encoder: TwoTowerEncoder) -> ConfigError:
    return ConfigError(f"{encoder.name}: has a tower for queries and one for passages; tune a model with one encoder")


def is_routed(model: SentenceTransformer) -> bool:
    return isinstance(model[0], Router)


def join_towers(query: DenseEncoder, passage: SentenceTransformer) -> TwoTowerEncoder:
    """The encoder whose queries ``query`` encodes and whose passages ``passage``. Prompts and lengths: ``query``'s."""
    towers = _cut_at(query.query_max_length, query), _cut_at(query.max_length, query, passage)
    router = Router.for_query_document(*towers)
    model = SentenceTransformer(
        modules=[router], device=query.device, prompts=query.named_prompts(), similarity_fn_name=query.similarity
    )
    return TwoTowerEncoder(model, query.name, bf16=query.bf16)


def _cut_at(length: int | None, encoder: DenseEncoder, model: SentenceTransformer | None = None) -> list[nn.Module]:
    """The modules of ``model``, by default the encoder's own, cutting texts at ``length`` tokens."""
    modules: list[nn.Module] = list(model or encoder.model)
    if not encoder.is_static and length is not None:
        first: Any = modules[0]
        first.max_seq_length = length
    return modules


def _tower(model: SentenceTransformer, side: Side, name: str) -> SentenceTransformer:
    router = model[0]
    assert isinstance(router, Router)
    route = ROUTES[side]
    if route not in router.sub_modules:
        raise ConfigError(f"{name}: its router has no `{route}` route; its routes are {', '.join(router.sub_modules)}")
    modules = [*router.sub_modules[route], *list(model)[1:]]
    return SentenceTransformer(
        modules=modules,
        device=str(model.device),
        prompts=dict(model.prompts),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
        truncate_dim=model.truncate_dim,
    )
