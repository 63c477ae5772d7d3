"""sentence-transformers' multi-vector models (ColBERT, Khattab and Zaharia 2020, 2004.12832) as encoders of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import MultiVectorEncoder as MultiVectorModel
from torch import Tensor

from bessemer.encoders.encoder import Encoded, Side
from bessemer.encoders.foreign import Features, ForeignEncoder, load_foreign
from bessemer.encoders.token_vectors import TokenVectors, joined
from bessemer.encoders.unified_settings import UnifiedSettings
from bessemer.errors import ArtifactError

PRECISION = UnifiedSettings().multi_vector_precision
NO_TOKEN = -1
"""The id of a vector that stands for several tokens."""


class MultiVectorEncoder(ForeignEncoder):
    """Texts to one vector per token that counts, kept in the precision of unified models.

    sentence-transformers sums a query's largest products where ours takes their mean: queries of one length apart,
    scores differ by that length, and ranks for one query are the same. Vectors that the model leaves at other lengths
    than 1 stay as they are.
    """

    def represent(self, features: Features) -> tuple[Tensor, Tensor]:
        """Differentiable forward pass: ``features`` to vectors (n, L, m), float32, and the mask (n, L) of those that
        count. Takes the training mode, gradients and autocast of the caller."""
        task = "query" if features["is_query"][0] else "document"
        output = self._forward(features, task=task)
        return output["token_embeddings"].float(), output["attention_mask"].bool()

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Raises ArtifactError if any number is not finite."""
        return Encoded(multi_vector=self._encode(texts, "query"))

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        """Raises ArtifactError if any number is not finite."""
        return Encoded(multi_vector=self._encode(texts, "passage"))

    def _encode(self, texts: Sequence[str], side: Side) -> TokenVectors:
        parts = [self._kept(found) for found in self._outputs(texts, side, output_value=None)]
        return joined([self._kept([]), *parts])

    def _kept(self, outputs: Sequence[Mapping[str, Any]]) -> TokenVectors:
        """The vectors of every text that its mask lets count."""
        rows = [np.zeros((0, self.model.get_embedding_dimension()), dtype=np.float32)]
        ids: list[NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)]
        for output in outputs:
            mask = output["attention_mask"].bool()
            rows.append(output["token_embeddings"][mask].float().cpu().numpy())
            ids.append(_token_ids(output, mask))
        offsets = np.cumsum([0, *map(len, rows[1:])], dtype=np.int64)
        vectors = np.concatenate(rows)
        if not np.isfinite(vectors).all():
            raise ArtifactError(f"{self.name}: some vectors are not finite; the weights are damaged")
        return TokenVectors(vectors, offsets, np.concatenate(ids)).stored_as(PRECISION)


def load_multi_vector(
    name: str, *, device: str | None = None, trust_remote_code: str | None = None, **lengths: Any
) -> MultiVectorEncoder:
    """Raises ConfigError where there is no such model."""
    return MultiVectorEncoder(load_foreign(MultiVectorModel, name, device, trust_remote_code), name, **lengths)


def _token_ids(output: Mapping[str, Any], mask: Any) -> NDArray[np.int32]:
    found = output.get("input_ids")
    if found is None or found.shape != mask.shape:  # tokens were pooled
        return np.full(int(mask.sum()), NO_TOKEN, dtype=np.int32)
    ids: NDArray[np.int32] = found[mask].cpu().numpy().astype(np.int32)
    return ids
