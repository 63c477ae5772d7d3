"""What trains of a unified model.

A text's row has its dense vector first, then of each token its weight and its vector. A lane that does not train has
no numbers in it, and its head is not run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.encoders.batch_scores import lexical_scores, max_sim, weights_by_id
from bessemer.encoders.encoder import Output
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.encoders.unified_heads import Represented
from bessemer.training.lanes import LANES, Batch, Lanes
from bessemer.training.mini_batches import Features


class UnifiedLanes(Lanes):
    """The lanes that ``config.trained_head`` names."""

    def __init__(self, encoder: UnifiedEncoder, config: FinetuneConfig) -> None:
        has_products = "dense" in LANES[config.trained_head] and encoder.similarity == "dot"
        super().__init__(config, normalised=not has_products)
        self._encoder = encoder

    def embed(self, features: Features) -> Tensor:
        """(n, d + L * (1 + m)) float32 of a mini-batch of texts of at most L tokens."""
        found = self._encoder.represent(features, self.outputs)
        of_tokens = [found.weights[..., None]] * ("sparse" in self.outputs)
        of_tokens += [found.vectors] * ("multi_vector" in self.outputs)
        rows = [found.dense] * ("dense" in self.outputs)
        rows += [torch.cat(of_tokens, dim=2).flatten(1)] * bool(of_tokens)
        return torch.cat(rows, dim=1)

    def scores(self, embeddings: Sequence[Tensor], batch: Batch) -> dict[Output, Tensor]:
        queries, passages = batch["queries"], batch["passages"]
        n = len(queries["features"])
        left = self._taken_apart(embeddings[:n], queries["features"])
        right = self._taken_apart(embeddings[n:], passages["features"])
        found: dict[Output, Tensor] = {}
        if "dense" in self.outputs:
            with torch.autocast(left[0].dense.device.type, enabled=False):
                found["dense"] = torch.cat([text.dense for text in left]) @ torch.cat([text.dense for text in right]).T
        if "sparse" in self.outputs:
            sides = ([(text.token_ids, text.weights) for text in side] for side in (left, right))
            found["sparse"] = lexical_scores(*sides)
        if "multi_vector" in self.outputs:
            sides = ([(text.vectors, text.mask) for text in side] for side in (left, right))
            found["multi_vector"] = max_sim(*sides)
        return {lane: of[queries["order"]][:, passages["order"]] for lane, of in found.items()}

    def sparse_rows(self, embeddings: Sequence[Tensor], features: Sequence[Features]) -> Tensor:
        return weights_by_id([(text.token_ids, text.weights) for text in self._taken_apart(embeddings, features)])

    def _taken_apart(self, embeddings: Sequence[Tensor], of_features: Sequence[Features]) -> list[Represented]:
        return [self._represented(rows, features) for rows, features in zip(embeddings, of_features, strict=True)]

    def _represented(self, rows: Tensor, features: Features) -> Represented:
        """The reverse of ``embed``; what does not train has no columns."""
        token_ids = features["input_ids"]
        length = token_ids.shape[1]
        n_dense = self._encoder.dimension * ("dense" in self.outputs)
        n_weights = int("sparse" in self.outputs)
        per_token = n_weights + self._encoder.multi_vector_dimension * ("multi_vector" in self.outputs)
        of_tokens = rows[:, n_dense : n_dense + length * per_token].reshape(len(rows), length, per_token)
        mask = self._encoder.heads.token_mask(token_ids, features["attention_mask"])
        weights = of_tokens[..., 0] if n_weights else of_tokens.new_empty(len(rows), 0)
        return Represented(rows[:, :n_dense], weights, of_tokens[..., n_weights:], token_ids, mask)
