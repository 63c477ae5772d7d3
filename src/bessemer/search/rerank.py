"""Scoring (query, passage) pairs by a cross-encoder: dear, and better than any product of two vectors."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from bessemer.encoders.runtime import resolve_device, without_progress_bars
from bessemer.encoders.untrained import refuse_untrained
from bessemer.errors import ArtifactError, ConfigError
from bessemer.hub import is_out_of_reach

BATCH_SIZE = 32
NO_RERANKER = "a model of embeddings cannot score pairs: give a cross-encoder such as BAAI/bge-reranker-v2-m3"


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder with one output; called with pairs, it gives their scores."""

    def __init__(self, name: str, device: str | None = None) -> None:
        """``name``: a folder or a hub name. Raises ConfigError where there is no such model, it is no cross-encoder
        or it has more outputs than one."""
        try:
            with without_progress_bars():
                self._model = CrossEncoder(
                    name,
                    device=resolve_device(device),
                    model_kwargs={"use_safetensors": True},
                    local_files_only=is_out_of_reach(name),
                )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            cause = str(error).strip().splitlines()[0]
            raise ConfigError(f"{name}: no cross-encoder to be had: {cause}; give a folder or a hub name") from error
        refuse_untrained(self._model, name, NO_RERANKER, uses_pooler=True)
        if self._model.num_labels != 1:
            raise ConfigError(f"{name}: has {self._model.num_labels} outputs; a reranker has one")
        self.name = name
        self.fingerprint = _fingerprint(self._model)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """(n,) scores, higher is more relevant. Raises ArtifactError if any is not finite."""
        return self._scores(pairs)

    def logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """(n,) scores as they are before the model's activation: where a sigmoid saturates, they still tell candidates
        apart. Raises ArtifactError if any is not finite."""
        return self._scores(pairs, activation_fn=torch.nn.Identity())

    def are_cut(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether each pair has more tokens than the model reads."""
        if not pairs:
            return []
        limit = self._model.max_seq_length or math.inf
        ids = self._model.tokenizer([q for q, _ in pairs], [p for _, p in pairs], truncation=False)["input_ids"]
        return [len(row) > limit for row in ids]

    def _scores(self, pairs: Sequence[tuple[str, str]], **how: torch.nn.Module) -> NDArray[np.float64]:
        if not pairs:
            return np.zeros(0)
        quiet = {"show_progress_bar": False, "convert_to_numpy": True}
        found = self._model.predict(list(pairs), batch_size=BATCH_SIZE, **quiet, **how)
        scores = np.asarray(found, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ArtifactError(f"{self.name}: scores are not finite; the weights are damaged")
        return scores


def _fingerprint(model: CrossEncoder) -> str:
    """sha256 over weights and vocabulary: the identity of what it computes."""
    digest = hashlib.sha256(json.dumps(model.tokenizer.get_vocab(), sort_keys=True).encode())
    for name, tensor in sorted(model.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
