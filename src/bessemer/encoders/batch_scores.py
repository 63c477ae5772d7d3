"""Scores of a training batch by tokens, every query with every passage: lean in memory, and differentiable.

A batch comes in mini-batches of different lengths. None is padded to the longest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.encoders.runtime import has_native_bf16

TokenWeights = tuple[Tensor, Tensor]
"""(ids (n, L), weights (n, L)) of the texts of a mini-batch; weights are 0 where a token does not count."""
MaskedVectors = tuple[Tensor, Tensor]
"""(vectors (n, L, m), mask (n, L)) of the texts of a mini-batch; the mask is True where a token has a vector."""
CPU_BLOCK, GPU_BLOCK = 1 << 20, 1 << 25
"""Products of tokens with tokens that are held at once: 4 MB, which stay in a CPU's cache; 128 MB."""


def lexical_scores(queries: Sequence[TokenWeights], passages: Sequence[TokenWeights]) -> Tensor:
    """(B, P) float32: the sum over shared token ids of w_q * w_p, each w the largest weight (0 or above) of the token's
    occurrences (SPLADE, Formal et al. 2021, 2107.05720; BGE-M3, Chen et al. 2024, 2402.03216).

    The columns of the product are the U distinct ids of the batch's queries, not the vocabulary: nothing else can be
    shared. Occurrences of equal weight share the gradient evenly.
    """
    kind = queries[0][1].device.type
    with torch.autocast(kind, enabled=False):
        columns = torch.unique(torch.cat([ids.flatten() for ids, _ in queries]))
        return _by_column(queries, columns) @ _by_column(passages, columns).T


def weights_by_id(texts: Sequence[TokenWeights]) -> Tensor:
    """(n, U) float32: the largest weight of each of the texts' U distinct token ids in each of them, ids rising."""
    with torch.autocast(texts[0][1].device.type, enabled=False):
        return _by_column(texts, torch.unique(torch.cat([ids.flatten() for ids, _ in texts])))


def _by_column(texts: Sequence[TokenWeights], columns: Tensor) -> Tensor:
    """(n, U) the weight of each of ``columns`` (ids, rising) in each text."""
    found = []
    for ids, weights in texts:
        column = torch.searchsorted(columns, ids).clamp_(max=len(columns) - 1)
        own = torch.where(columns[column] == ids, weights.float(), 0.0)
        found.append(own.new_zeros(len(ids), len(columns)).scatter_reduce(1, column, own, "amax"))
    return torch.cat(found)


def max_sim(queries: Sequence[MaskedVectors], passages: Sequence[MaskedVectors]) -> Tensor:
    """(B, P) float32: the mean over the query's tokens of the largest dot product with a token of the passage
    (ColBERT, Khattab & Zaharia 2020, 2004.12832, which sums; the mean: BGE-M3, 2402.03216). 0 where either has none.

    The (B, P, Lq, Lp) products exist one block of passages at a time; which token was the largest is kept of each for
    the backward pass, the first of equals. Under autocast the products are in its precision, where the hardware
    multiplies in it; all else, the gradient included, is in float32.
    """
    of_tokens = torch.cat([vectors[mask] for vectors, mask in queries]).float()  # (T, m)
    counts = torch.cat([mask.sum(dim=1) for _, mask in queries])  # (B,)
    precision = _product_precision(of_tokens.device)
    with torch.autocast(of_tokens.device.type, enabled=False):
        blocks = _blocks(passages, len(of_tokens))
        best = torch.cat([_Largest.apply(of_tokens, *block, precision) for block in blocks], dim=1)  # type: ignore[no-untyped-call]
        query = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        sums = best.new_zeros(len(counts), best.shape[1]).index_add(0, query, best)
        return sums / counts.clamp(min=1)[:, None]


def _product_precision(device: torch.device) -> torch.dtype:
    if not torch.is_autocast_enabled(device.type):
        return torch.float32
    asked = torch.get_autocast_dtype(device.type)
    return torch.float32 if asked is torch.bfloat16 and not has_native_bf16(device.type) else asked


def _blocks(passages: Sequence[MaskedVectors], n_tokens: int) -> Iterator[MaskedVectors]:
    """Passages in order, so many at once that their tokens with ``n_tokens`` make about a block of products."""
    for vectors, mask in passages:
        block = CPU_BLOCK if vectors.device.type == "cpu" else GPU_BLOCK
        rows = max(1, block // max(1, n_tokens * mask.shape[1]))
        yield from zip(torch.split(vectors.float(), rows), torch.split(mask, rows), strict=True)


class _Largest(torch.autograd.Function):
    """Tokens (T, m) and passages (n, L, m) to (T, n): each token's largest dot product with a passage's tokens."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, vectors: Tensor, mask: Tensor, precision: torch.dtype) -> Tensor:
        bias = torch.zeros(mask.shape, dtype=precision, device=mask.device).masked_fill_(~mask, float("-inf"))
        products = F.linear(tokens.to(precision), vectors.flatten(0, 1).to(precision), bias.flatten())
        largest, position = products.view(len(tokens), *mask.shape).max(dim=2)
        is_there = mask.any(dim=1)
        ctx.save_for_backward(tokens, vectors, position.to(torch.int32), is_there)
        return largest.float().masked_fill_(~is_there, 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """By products with the sparse (n * L, T) matrix that has the gradient where a passage's token was largest."""
        tokens, vectors, position, is_there = ctx.saved_tensors
        n, length = vectors.shape[:2]
        row = position + length * torch.arange(n, device=position.device)  # (T, n)
        column = torch.arange(len(tokens), device=position.device).repeat_interleave(n)
        values = gradient.masked_fill(~is_there, 0.0).flatten()
        where, shape = torch.stack([row.flatten(), column]), (n * length, len(tokens))
        of_largest = torch.sparse_coo_tensor(where, values, shape, check_invariants=False)
        of_tokens = torch.sparse.mm(of_largest.t(), vectors.flatten(0, 1))
        return of_tokens, torch.sparse.mm(of_largest, tokens).view_as(vectors), None, None
