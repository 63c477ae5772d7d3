"""A bf16 copy of a model for encoding, and how far its vectors are from fp32."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

MIN_BF16_COSINE = 0.999
"""Least cosine between a text's bf16 and fp32 vectors for bf16 to be used."""

EAGER_MAX_LENGTH = 1_024
"""Eager attention holds (heads, length, length) scores: only for models whose texts are shorter than this."""


def bf16_modules(model: SentenceTransformer) -> list[nn.Module]:
    """The modules of ``model`` with a bf16 transformer; pooling and what follows stay fp32 and are shared.

    Buffers (rotary frequencies) keep their type, and the fp32 weights are never duplicated on the way. On CPUs eager
    attention is the faster one in bf16.
    """
    first, *rest = model
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to(torch.bfloat16), requires_grad=False)
        for parameter in first.model.parameters()
    }
    network = copy.deepcopy(first.model, memo).eval()
    short = first.max_seq_length is not None and first.max_seq_length <= EAGER_MAX_LENGTH
    if model.device.type == "cpu" and short and network.config._attn_implementation == "sdpa":
        network.set_attn_implementation("eager")
    transformer = copy.copy(first)
    transformer.__dict__["_modules"] = {**first._modules, "model": network}
    return [transformer, _ToFloat(), *rest]


class _ToFloat(nn.Module):
    """bf16 token embeddings to fp32, for pooling and normalisation."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
            for key, value in features.items()
        }


def lowest_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The least cosine between rows of the same index, in float64; rows that are zero in both count as equal."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    both_zero = ~a64.any(axis=1) & ~b64.any(axis=1)
    cosines = np.where(both_zero, 1.0, np.einsum("ij,ij->i", a64, b64) / np.where(norms == 0, 1.0, norms))
    return float(cosines.min(initial=1.0))
