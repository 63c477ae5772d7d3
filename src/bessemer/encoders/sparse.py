"""sentence-transformers' sparse models (SPLADE, Formal et al. 2021, 2109.10086) as encoders of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from sentence_transformers import SparseEncoder as SparseModel
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor

from bessemer.encoders.active_dimensions import ActiveDimensions
from bessemer.encoders.encoder import Encoded, Side
from bessemer.encoders.foreign import Features, ForeignEncoder, first_of, load_foreign
from bessemer.encoders.head_base import vocabulary_size
from bessemer.errors import ArtifactError, ConfigError

CPU_BATCH = 8
"""Texts at once on a CPU: a batch has a number for every token and every word of the vocabulary."""


class SparseEncoder(ForeignEncoder):
    """Texts to weights over the vocabulary. Of a model whose similarity is cosine the rows are brought to unit length,
    so that a score is a dot product. ``active`` counts the weights of what is encoded."""

    def __init__(self, model: SparseModel, name: str, **lengths: Any) -> None:
        """``lengths`` as ForeignEncoder's. Raises ConfigError for similarities other than dot and cosine."""
        if model.similarity_fn_name not in ("dot", "cosine"):
            raise ConfigError(f"{name}: similarity `{model.similarity_fn_name}` is not supported; known: dot, cosine")
        super().__init__(model, name, **lengths)
        if self.device == "cpu":
            self.batch_size = CPU_BATCH
        self.active = ActiveDimensions()

    @property
    def dimension(self) -> int:
        """The size of the vocabulary, which sentence-transformers knows only once a text was pooled."""
        is_splade = any(isinstance(module, SpladePooling) for module in self.model)
        return vocabulary_size(first_of(self.model, "passage")) if is_splade else super().dimension

    def represent(self, features: Features) -> Tensor:
        """Differentiable forward pass: ``features`` to rows (n, vocabulary), float32. Takes the training mode,
        gradients and autocast of the caller. Before pooling there is a number per token and word of the vocabulary."""
        rows: Tensor = self._forward(features)["sentence_embedding"].float()
        return F.normalize(rows, dim=-1) if self.model.similarity_fn_name == "cosine" else rows

    def require_trainable(self) -> None:
        """As ForeignEncoder's; of sparse models SPLADE trains."""
        super().require_trainable()
        if not any(isinstance(module, SpladePooling) for module in self.model):
            raise ConfigError(f"{self.name}: of sparse models SPLADE trains here, this one pools in another way")

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Rows (n, vocabulary). Raises ArtifactError if a weight is not finite or below zero."""
        return Encoded(sparse=self._encode(texts, "query"))

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        """Rows (n, vocabulary). Raises ArtifactError if a weight is not finite or below zero."""
        return Encoded(sparse=self._encode(texts, "passage"))

    def _encode(self, texts: Sequence[str], side: Side) -> sp.csr_array:
        how = {"convert_to_sparse_tensor": True, "save_to_cpu": True}
        rows = [_rows(found) for found in self._outputs(texts, side, **how)]
        if not rows:
            nothing: Any = sp.csr_array((0, self.dimension), dtype=np.float32)
            rows = [nothing]
        joined: sp.csr_array = sp.vstack(rows, format="csr")
        if not (np.isfinite(joined.data) & (joined.data > 0)).all():
            raise ArtifactError(f"{self.name}: some weights are not finite or below zero; the model is damaged")
        if self.model.similarity_fn_name == "cosine":
            norms = np.sqrt(joined.multiply(joined).sum(axis=1))
            joined.data /= np.repeat(np.where(norms > 0, norms, 1), np.diff(joined.indptr)).astype(np.float32)
        self.active.count(joined, side)
        return joined


def load_sparse(
    name: str, *, device: str | None = None, trust_remote_code: str | None = None, **lengths: Any
) -> SparseEncoder:
    """Raises ConfigError where there is no such model."""
    return SparseEncoder(load_foreign(SparseModel, name, device, trust_remote_code), name, **lengths)


def _rows(found: torch.Tensor) -> sp.csr_array:
    found = found.coalesce()
    values, indices = found.values().float().numpy(), found.indices().numpy()
    rows = sp.coo_array((values, tuple(indices)), shape=tuple(found.shape)).tocsr()
    rows.eliminate_zeros()
    rows.sort_indices()
    return rows
