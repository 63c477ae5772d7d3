"""What trains of sentence-transformers' sparse and multi-vector models: the one lane that each of them is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.encoders.batch_scores import MaskedVectors, max_sim
from bessemer.encoders.encoder import Output
from bessemer.encoders.multi_vector import MultiVectorEncoder
from bessemer.encoders.sparse import SparseEncoder
from bessemer.training.lanes import Batch, Lanes
from bessemer.training.mini_batches import Features


class SpladeLanes(Lanes):
    """Rows over the vocabulary, whole: 4 bytes for each text and word, 23 MB for 192 texts and 30,522 words, and as
    much for their gradient. Beside the logits of a single mini-batch (125 MB for 1,024 tokens) that is little."""

    def __init__(self, encoder: SparseEncoder, config: FinetuneConfig) -> None:
        super().__init__(config, normalised=encoder.model.similarity_fn_name == "cosine")
        self._encoder = encoder

    def embed(self, features: Features) -> Tensor:
        """(n, V)"""
        return self._encoder.represent(features)

    def scores(self, embeddings: Sequence[Tensor], batch: Batch) -> dict[Output, Tensor]:
        """Dot products."""
        queries, passages = batch["queries"], batch["passages"]
        n = len(queries["features"])
        with torch.autocast(embeddings[0].device.type, enabled=False):
            found = torch.cat(list(embeddings[:n])) @ torch.cat(list(embeddings[n:])).T
        return {"sparse": found[queries["order"]][:, passages["order"]]}

    def sparse_rows(self, embeddings: Sequence[Tensor], features: Sequence[Features]) -> Tensor:
        return torch.cat(list(embeddings))


class ColbertLanes(Lanes):
    """Of each token a 1 where it counts, then its vector. The mask goes with the vectors because it is the model's own:
    punctuation may be out, tokens may be pooled, a query may be filled up."""

    def __init__(self, encoder: MultiVectorEncoder, config: FinetuneConfig) -> None:
        super().__init__(config, normalised=True)
        self._encoder = encoder

    def embed(self, features: Features) -> Tensor:
        """(n, L * (1 + m))"""
        vectors, mask = self._encoder.represent(features)
        return torch.cat([mask[..., None].float(), vectors], dim=2).flatten(1)

    def scores(self, embeddings: Sequence[Tensor], batch: Batch) -> dict[Output, Tensor]:
        """Mean over a query's tokens of the largest product: of ColBERT's sum, the temperature would have to know the
        length of queries."""
        queries, passages = batch["queries"], batch["passages"]
        parts = [self._taken_apart(rows) for rows in embeddings]
        n = len(queries["features"])
        return {"multi_vector": max_sim(parts[:n], parts[n:])[queries["order"]][:, passages["order"]]}

    def sparse_rows(self, embeddings: Sequence[Tensor], features: Sequence[Features]) -> Tensor:
        raise ValueError("token vectors have no sparse weights")

    def _taken_apart(self, rows: Tensor) -> MaskedVectors:
        """The reverse of ``embed``; what other processes' longer rows have added is masked."""
        per_token = rows.reshape(len(rows), -1, 1 + self._encoder.dimension)
        return per_token[..., 1:], per_token[..., 0].detach() > 0
