"""MTEB: a model of ours, dense, under its encoder protocol (arXiv 2210.07316; mteb 2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType
except ImportError as error:
    raise ImportError('bessemer.clients.mteb needs mteb: pip install "bessemer[mteb]"') from error

from bessemer.clients.in_process import InProcessModel
from bessemer.encoders.cpu.encoder import CpuEncoder

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata

    from bessemer.encoders.dense import DenseEncoder


class BessemerEncoder(AbsEncoder):
    """For ``mteb.evaluate(BessemerEncoder("tuned"), tasks)``: the model's own prompts, lengths and similarity.

    Its revision is a hash of all that shapes the vectors, so that mteb never takes the cached results of one model for
    another's. Texts that a task gives neither as queries nor as documents are encoded as passages.
    """

    def __init__(self, model: str | Path | DenseEncoder | CpuEncoder) -> None:
        """``model``: a folder, an alias such as minilm, a hub name, a CPU build, or what `load_encoder` gave.
        Raises ConfigError where there is none."""
        self._model = InProcessModel(model)
        self.mteb_model_meta = _meta(self._model.encoder)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> NDArray[np.float32]:
        """Vectors (n, dimension), float32. The encoder chooses its batches itself, whatever ``kwargs`` say."""
        texts = [text for batch in inputs for text in _texts(batch)]
        return self._model.encode(texts, "query" if prompt_type == PromptType.query else "passage")


def _texts(batch: Mapping[str, Any]) -> list[str]:
    """Title and text of a document stand in two lines, as everywhere in this package; mteb joins them by a space."""
    if "title" not in batch:
        return list(batch["text"])
    pairs = zip(batch["title"], batch["body"], strict=True)
    return [f"{title}\n{body}" if title else body for title, body in pairs]


def _meta(encoder: DenseEncoder | CpuEncoder) -> ModelMeta:
    name = encoder.name if encoder.name.count("/") == 1 and not Path(encoder.name).exists() else Path(encoder.name).name
    network = None if isinstance(encoder, CpuEncoder) else encoder.model
    scoring = {"cosine": ScoringFunction.COSINE, "dot": ScoringFunction.DOT_PRODUCT}
    return ModelMeta.create_empty({
        "name": name if "/" in name else f"bessemer/{name}",
        "revision": hashlib.sha256(encoder.content_key.encode()).hexdigest()[:40],
        "n_parameters": sum(one.numel() for one in network.parameters()) if network else None,
        "max_tokens": encoder.max_length,
        "embed_dim": encoder.dimension,
        "open_weights": True,
        "framework": ["Sentence Transformers", "PyTorch"] if network else [],
        "similarity_fn_name": scoring[encoder.similarity],
        "use_instructions": bool(encoder.query_prompt or encoder.passage_prompt),
    })  # fmt: skip
