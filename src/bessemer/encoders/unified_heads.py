"""The two heads that make a dense model a unified one, on the last hidden states of its transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Represented(NamedTuple):
    """All representations of n texts of at most L tokens; everything but the ids and the mask is float32.

    dense      (n, d)     as `DenseEncoder.embed` gives it.
    weights    (n, L)     sparse weight of every token, at least 0; 0 at padding and special tokens.
    vectors    (n, L, m)  of unit length where ``mask`` is true, else 0.
    token_ids  (n, L)     int64
    mask       (n, L)     bool, the tokens that have a vector.
    """

    dense: Tensor
    weights: Tensor
    vectors: Tensor
    token_ids: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class SparseStart:
    """How well a new sparse head, as `with_heads` begins it, fits BM25-like weights: ``r_squared`` over ``n_words``
    words of ``n_fitted`` texts, of the ``n_texts`` that document frequencies were counted in."""

    r_squared: float
    n_fitted: int
    n_words: int
    n_texts: int

    def __str__(self) -> str:
        fitted = f"{self.n_words} words of {self.n_fitted} texts"
        return f"sparse head begun near BM25 (R2 {self.r_squared:.2f} over {fitted}, frequencies of {self.n_texts})"


class UnifiedHeads(nn.Module):
    """Hidden states H (n, L, h) to sparse weights relu(H w + b) and token vectors normalise(H W + b) of m numbers
    (BGE-M3, arXiv 2402.03216).

    Special tokens have no weight. The first token of a text (``[CLS]``, ``<s>``) has no vector; neither have the
    tokens of a text that holds nothing but special tokens, an empty one for instance: it matches nothing.
    """

    special_ids: Tensor

    def __init__(self, hidden_size: int, dimension: int, special_ids: Sequence[int]) -> None:
        """``dimension``: m; ``special_ids``: the ids of the tokenizer's special tokens."""
        super().__init__()
        self.sparse = nn.Linear(hidden_size, 1)
        self.multi_vector = nn.Linear(hidden_size, dimension)
        ids = torch.tensor(sorted(special_ids), dtype=torch.int64)
        self.register_buffer("special_ids", ids, persistent=False)  # no weight: it is not mixed or trained

    def forward(self, hidden: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """``hidden`` (n, L, h), ``input_ids`` and ``attention_mask`` (n, L) to weights (n, L) and vectors (n, L, m)."""
        mask = self.token_mask(input_ids, attention_mask)
        return self.weights(hidden, input_ids, attention_mask), self.vectors(hidden, mask)

    def weights(self, hidden: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, L) float32, computed in float32 under autocast, too: one number per token is cheap."""
        with torch.autocast(hidden.device.type, enabled=False):
            weights = F.relu(self.sparse(hidden.float())).squeeze(-1)
        return weights.masked_fill(~self.is_word(input_ids, attention_mask), 0.0)

    def vectors(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(n, L, m) float32 of unit length where ``mask`` (n, L) is true; the product is the autocast's."""
        vectors = F.normalize(self.multi_vector(hidden).float(), dim=-1)
        return vectors.masked_fill(~mask[..., None], 0.0)

    def token_mask(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, L) bool: the tokens that have a vector."""
        is_real = attention_mask.bool()
        is_first = is_real & (attention_mask.cumsum(dim=1) == 1)  # not column 0: padding may stand on the left
        return is_real & ~is_first & self.is_word(input_ids, attention_mask).any(dim=1, keepdim=True)

    def is_word(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, L) bool: neither padding nor a special token."""
        return attention_mask.bool() & ~torch.isin(input_ids, self.special_ids)
