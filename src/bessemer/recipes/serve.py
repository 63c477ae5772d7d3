"""The HTTP service over indexes, or over a model alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bessemer.config import Config
from bessemer.encoders.cpu.manifest import is_build
from bessemer.encoders.encoder import OUTPUTS, Output
from bessemer.encoders.kinds import kind_of
from bessemer.encoders.widths import widths_of
from bessemer.errors import ConfigError
from bessemer.recipes.ask import Asker
from bessemer.recipes.data import open_encoder, open_search_encoder
from bessemer.recipes.lane_models import open_multi_vector, open_sparse
from bessemer.recipes.output import installed_versions
from bessemer.search.encoded_texts import unified_in
from bessemer.search.index import Index, open_index
from bessemer.search.rerank import CrossEncoderReranker

if TYPE_CHECKING:
    from bessemer.serving.service import Served

log = logging.getLogger("bessemer")


def serve(config: Config, locations: Sequence[str], model: str | None, backend: str | None = None) -> None:
    """Serve the indexes at ``locations``, or ``model``, until SIGTERM or SIGINT; with ``backend`` by the CPU build in
    the folder of the model. Raises ConfigError before anything is loaded where the service would be open to others
    without a key."""
    try:
        from bessemer.serving.keys import read_keys, require_safe_host
        from bessemer.serving.server import run
        from bessemer.serving.service import Service
    except ImportError as error:
        raise ConfigError(f'serve needs {error.name}: pip install "bessemer[serve]"') from None

    keys = read_keys(config.serve.api_key_file) if config.serve.api_key_file else None
    require_safe_host(config.serve.host, keys)
    served = open_served(config, locations, model, backend)
    service = Service(served, config.serve)
    run(service, keys, lambda host, port: log.info("http://%s:%d serves %s", _in_url(host), port, served.name))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def open_served(config: Config, locations: Sequence[str], model: str | None, backend: str | None = None) -> Served:
    """What `serve` serves, opened. Raises ConfigError and ArtifactError where something cannot be."""
    from bessemer.serving.service import Served

    if bool(locations) == (model is not None):
        raise ConfigError("give --index (once for each), whose model is served as well, or --model alone")
    indexes = open_indexes(config, locations, backend)
    name, encoder, outputs = _of_index(indexes) if indexes else _alone(config, str(model), backend)
    return Served(
        _shown(name),
        encoder,
        outputs,
        widths_of(name),
        indexes,
        CrossEncoderReranker(config.serve.reranker, config.device) if config.serve.reranker else None,
        Asker(config, indexes) if config.llm.url and indexes else None,
        installed_versions(),
    )


def open_indexes(config: Config, locations: Sequence[str], backend: str | None = None) -> dict[str, Index]:
    """By the last part of their locations, or the whole where two share it. One encoder serves all indexes that were
    built with it alike."""
    found: dict[str, Index] = {}
    task = config.task or None
    last = [Path(location).resolve().name for location in locations]
    for location, name in dict(zip(locations, last, strict=True)).items():
        index = open_index(location, task=task, backend=backend, **config.runtime)
        index.use_encoder_of(found.values())
        found[name if last.count(name) == 1 else location] = index
    return found


def _of_index(indexes: Mapping[str, Index]) -> tuple[str, Any, tuple[Output, ...]]:
    """Name, encoder and outputs of the first index's model."""
    encoder: Any = next(iter(indexes.values())).encoder
    return str(encoder.name), encoder, _outputs(encoder)


def _alone(config: Config, model: str, backend: str | None) -> tuple[str, Any, tuple[Output, ...]]:
    encoder: Any
    if backend is not None or is_build(model):
        encoder = open_search_encoder(config, model, backend)
        return str(encoder.name), encoder, _outputs(encoder)
    kind = kind_of(model, config.trust_remote_code) or "dense"
    if kind == "cross-encoder":
        raise ConfigError(f"--model {model}: is a cross-encoder; give it as --reranker beside an index or a model")
    if kind == "sparse":
        return model, open_sparse(config, model), ("sparse",)
    if kind == "multi":
        return model, open_multi_vector(config, model), ("multi_vector",)
    encoder = open_encoder(config, model)
    return model, encoder, _outputs(encoder)


def _outputs(encoder: Any) -> tuple[Output, ...]:
    return OUTPUTS if unified_in(encoder) else ("dense",)


def _shown(name: str) -> str:
    """The last part of a model's name: clients need no paths. A build has the name of its model before it."""
    path = Path(name).expanduser()
    return f"{path.resolve().parent.name}/{path.name}" if is_build(path) else path.name
