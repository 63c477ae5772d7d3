"""A model and an index in this process, for frameworks that call from many threads: one call at a time."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import Side
from bessemer.search.index import open_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bessemer.encoders.cpu.encoder import CpuEncoder
    from bessemer.encoders.dense import DenseEncoder

logger = logging.getLogger(__name__)


class InProcessModel:
    """Dense vectors of a model. ``model``: a folder, an alias, a hub name, a CPU build, or an encoder loaded already.

    Raises ConfigError and ArtifactError as `open_for_search` does.
    """

    def __init__(self, model: str | Path | DenseEncoder | CpuEncoder) -> None:
        from bessemer.encoders.search_encoder import open_for_search  # torch: not before there is a model to load

        self.encoder = open_for_search(str(model)) if isinstance(model, str | Path) else model
        self._lock = Lock()

    def __getstate__(self) -> DenseEncoder | CpuEncoder:
        return self.encoder  # a lock stays in its process; LlamaIndex sends models to others

    def __setstate__(self, encoder: DenseEncoder | CpuEncoder) -> None:
        self.encoder, self._lock = encoder, Lock()

    def encode(self, texts: Sequence[str], side: Side) -> NDArray[np.float32]:
        """Vectors (n, dimension) with the prompt of the side. Texts that are too long are cut, and counted in a
        warning."""
        with self._lock:
            before = self.encoder.n_truncated[side]
            vectors = self.encoder.encode(texts, side)
            n_cut = self.encoder.n_truncated[side] - before
        if n_cut:
            logger.warning(
                "%s: %d of %d %s texts were too long and were cut", self.encoder.name, n_cut, len(texts), side
            )
        return vectors

    def query(self, text: str) -> list[float]:
        vector: list[float] = self.encode([text], "query")[0].tolist()
        return vector

    def passages(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.encode(texts, "passage").tolist()
        return vectors


class InProcessIndex:
    """Searches in an index. Raises ArtifactError and ConfigError as `open_index` does."""

    def __init__(self, location: str | Path, task: str | None = None) -> None:
        self.index = open_index(location, task=task)
        self._lock = Lock()

    def search(self, query: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
        """(text, metadata) of every passage found, the best first. ``options`` are those of `Index.search`.

        The metadata are the passage's own and, before these where names are the same, ``passage_id``, ``doc_id``,
        ``score``, ``lanes``.
        """
        with self._lock:
            rows = self.index.search(query, **options)
        return [(row.pop("text"), {**row.pop("metadata", {}), **row}) for row in rows]
