"""Models of every kind, opened for the lane that is asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cpu.manifest import is_build
from bessemer.encoders.encoder import Encoded, Encoder, Output, Side, Similarity
from bessemer.encoders.kinds import DESCRIBED, Kind, kind_of
from bessemer.encoders.multi_vector import load_multi_vector
from bessemer.encoders.sparse import load_sparse
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ConfigError
from bessemer.recipes.data import open_encoder

TAKEN: Mapping[str, tuple[Kind, ...]] = {
    "dense": ("dense", "unified"),
    "sparse": ("sparse", "unified"),
    "multi": ("multi", "unified"),
    "unified": ("unified",),
    "rerank": ("cross-encoder", "multi", "unified"),
}
"""Which kinds of models serve for what."""


class OneLane:
    """The sparse or the multi-vector lane of a unified model, as an encoder."""

    similarity: Similarity = "dot"

    def __init__(self, encoder: UnifiedEncoder, output: Output) -> None:
        self.encoder = encoder
        self.n_truncated, self.n_pruned = encoder.n_truncated, encoder.n_pruned
        self._outputs = (output,)

    def fingerprint_of(self, side: Side) -> str:
        return self.encoder.fingerprint_of(side)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self.encoder.encode_queries(texts, self._outputs)

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        return self.encoder.encode_passages(texts, self._outputs)


def misfit(use: str, name: str, revision: str | None = None) -> str:
    """Why the model cannot serve for ``use`` (a key of TAKEN), with what to do; empty where it can, or where nothing
    is known of it."""
    if is_build(name):
        return "" if use == "dense" else f"{name} is a CPU build: give dense:{name}"
    try:
        kind = kind_of(name, revision)
    except ConfigError as error:
        return str(error)
    if kind is None or kind in TAKEN[use]:
        return ""
    if use == "rerank":
        return f"{name} is {DESCRIBED[kind]}: rerank with a cross-encoder, a multi-vector or a unified model"
    if kind == "cross-encoder":
        return f"{name} is a cross-encoder: give rerank:NAME:{name}, NAME a system named before"
    heads = ", or train heads with `bessemer finetune --head unified`" if kind == "dense" else ""
    return f"{name} is {DESCRIBED[kind]}: give {kind}:{name}{heads}"


def open_unified(config: Config, name: str) -> UnifiedEncoder:
    """Raises ConfigError for a model of another kind."""
    encoder = open_encoder(config, name)
    if not isinstance(encoder, UnifiedEncoder):
        raise ConfigError(misfit("unified", name) or f"{name} has no heads: give dense:{name}")
    return encoder


def open_sparse(config: Config, name: str) -> Encoder:
    """A SPLADE model, or the sparse lane of a unified one. Raises ConfigError."""
    if kind_of(name, config.trust_remote_code) == "unified":
        return OneLane(open_unified(config, name), "sparse")
    return load_sparse(name, **foreign_options(config))


def open_multi_vector(config: Config, name: str) -> Encoder:
    """A ColBERT model, or the multi-vector lane of a unified one. Raises ConfigError."""
    if kind_of(name, config.trust_remote_code) == "unified":
        return OneLane(open_unified(config, name), "multi_vector")
    return load_multi_vector(name, **foreign_options(config))


def foreign_options(config: Config) -> dict[str, Any]:
    """How models of sentence-transformers' own kinds are loaded."""
    return {
        "device": config.device,
        "trust_remote_code": config.trust_remote_code,
        "max_length": config.finetune.max_length,
        "query_max_length": config.finetune.query_max_length,
    }
