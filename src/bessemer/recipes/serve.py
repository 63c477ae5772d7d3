"""The HTTP service over indexes, or over a model alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.encoder import OUTPUTS, Output
from bessemer.encoders.kinds import Kind, kind_of
from bessemer.encoders.multi_vector import load_multi_vector
from bessemer.encoders.sparse import load_sparse
from bessemer.encoders.widths import widths_of
from bessemer.errors import ConfigError
from bessemer.recipes.ask import Asker
from bessemer.recipes.data import open_encoder
from bessemer.recipes.output import installed_versions
from bessemer.search.index import Index, open_index
from bessemer.search.rerank import CrossEncoderReranker

log = logging.getLogger("bessemer")

_OUTPUTS: Mapping[Kind, tuple[Output, ...]] = {
    "dense": ("dense",),
    "unified": OUTPUTS,
    "sparse": ("sparse",),
    "multi": ("multi_vector",),
}


def serve(config: Config, locations: Sequence[str], model: str | None) -> None:
    """Serve the indexes at ``locations``, or ``model``, until SIGTERM or SIGINT. Raises ConfigError before anything is
    loaded where the service would be open to others without a key."""
    try:
        from bessemer.serving.keys import read_keys, require_safe_host
        from bessemer.serving.server import run
        from bessemer.serving.service import Served, Service
    except ImportError as error:
        raise ConfigError(f'serve needs {error.name}: pip install "bessemer[serve]"') from None

    keys = read_keys(config.serve.api_key_file) if config.serve.api_key_file else None
    require_safe_host(config.serve.host, keys)
    if bool(locations) == (model is not None):
        raise ConfigError("give --index (once for each), whose model is served as well, or --model alone")
    indexes = open_indexes(locations, config.task or None)
    name, encoder, outputs = _of_index(indexes) if indexes else _alone(config, str(model))
    served = Served(
        Path(name).name,
        encoder,
        outputs,
        widths_of(name),
        indexes,
        CrossEncoderReranker(config.serve.reranker, config.device) if config.serve.reranker else None,
        Asker(config, indexes) if config.llm.url and indexes else None,
        installed_versions(),
    )
    run(Service(served, config.serve), keys, lambda host, port: log.info("http://%s:%d serves %s", host, port, name))


def open_indexes(locations: Sequence[str], task: str | None) -> dict[str, Index]:
    """By the last part of their locations, or the whole where two share it. One encoder serves all indexes that were
    built with it alike."""
    found: dict[str, Index] = {}
    last = [Path(location).resolve().name for location in locations]
    for location, name in dict(zip(locations, last, strict=True)).items():
        index = open_index(location, task=task)
        alike = next((other for other in found.values() if _built_alike(index, other)), None)
        if alike is not None:
            index = open_index(location, alike.encoder, task)
        found[name if last.count(name) == 1 else location] = index
    return found


def _built_alike(one: Index, other: Index) -> bool:
    return all(one.manifest.get(key) == other.manifest.get(key) for key in ("fingerprint", "task", "encoding"))


def _of_index(indexes: Mapping[str, Index]) -> tuple[str, Any, tuple[Output, ...]]:
    """Name, encoder and outputs of the first index's model."""
    index = next(iter(indexes.values()))
    encoder: Any = index.encoder
    return str(encoder.name), encoder, OUTPUTS if hasattr(encoder, "lane_weights") else ("dense",)


def _alone(config: Config, model: str) -> tuple[str, Any, tuple[Output, ...]]:
    kind = kind_of(model, config.trust_remote_code) or "dense"
    if kind == "cross-encoder":
        raise ConfigError(f"--model {model}: is a cross-encoder; give it as --reranker beside an index or a model")
    how = {"device": config.device, "trust_remote_code": config.trust_remote_code}
    encoder: Any
    if kind == "sparse":
        encoder = load_sparse(model, **how)
    elif kind == "multi":
        encoder = load_multi_vector(model, **how)
    else:
        encoder = open_encoder(config, model)
    return model, encoder, _OUTPUTS[kind]
