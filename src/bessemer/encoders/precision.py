"""A bf16 copy of a model for encoding, and how far what one encoder gives is from what another does."""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers.activations import GELUActivation

from bessemer.encoders.encoder import Encoded, Output
from bessemer.encoders.runtime import has_native_bf16

MIN_BF16_COSINE = 0.999
"""Least cosine between a text's bf16 and fp32 vectors for bf16 to be used."""

_PACKED_TYPES = ("bert", "roberta", "xlm-roberta")
"""Architectures whose linear layers are only ever called, so that another module may stand in for them."""


def bf16_modules(model: SentenceTransformer) -> list[nn.Module]:
    """The modules of ``model`` with a bf16 transformer; pooling and what follows stay fp32 and are shared.

    Buffers (rotary frequencies) keep their type, and the fp32 weights are never duplicated on the way.
    """
    first, *rest = model
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to(torch.bfloat16), requires_grad=False)
        for parameter in first.model.parameters()
    }
    network = copy.deepcopy(first.model, memo).eval()
    if _can_pack(model.device, network):
        _pack(network)
    transformer = copy.copy(first)
    transformer.__dict__["_modules"] = {**first._modules, "model": network}
    return [transformer, _ToFloat(), *rest]


def _can_pack(device: torch.device, network: Any) -> bool:
    """Whether oneDNN's packed linear layers, which torch's own compiler uses, are there and known to fit."""
    has_kernels = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    has_hardware = device.type == "cpu" and has_native_bf16("cpu")
    return has_hardware and has_kernels and network.config.model_type in _PACKED_TYPES


def _pack(network: nn.Module) -> None:
    """Put packed linear layers in, GELU fused where it follows: a tenth and more off the time of a forward pass."""
    for module in list(network.modules()):
        activation = getattr(module, "intermediate_act_fn", None)
        has_gelu = (
            type(activation) in (nn.GELU, GELUActivation) and getattr(activation, "approximate", "none") == "none"
        )
        if has_gelu:
            module.intermediate_act_fn = nn.Identity()
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, _PackedLinear(child, "gelu" if has_gelu else "none"))


class _PackedLinear(nn.Module):
    """A linear layer whose weight was laid out for the CPU once instead of at every call; inference only."""

    def __init__(self, linear: nn.Linear, activation: str) -> None:
        super().__init__()
        weight, bias = linear.weight.detach(), linear.bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.bias = None if bias is None else bias.detach()
        self.activation, self.algorithm = activation, "none" if activation == "gelu" else ""

    def forward(self, x: Tensor) -> Tensor:
        fused = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], self.algorithm)
        return cast(Tensor, fused)


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


def lowest_cosines(one: Encoded, other: Encoded) -> dict[Output, float]:
    """The least cosine of each output, NaN where one is: between the dense vectors of a text, between all token vectors
    of a text as one, and between the sparse weights of all texts as one (those that relu has left near zero differ, and
    matter little)."""
    found: dict[Output, float] = {}
    if one.dense is not None and other.dense is not None:
        found["dense"] = lowest_cosine(one.dense, other.dense)
    if one.sparse is not None and other.sparse is not None:
        found["sparse"] = lowest_cosine(one.sparse.toarray().reshape(1, -1), other.sparse.toarray().reshape(1, -1))
    if one.multi_vector is not None and other.multi_vector is not None:
        of_texts = [
            [vectors.floats(i, i + 1).reshape(1, -1) for i in range(len(vectors))]
            for vectors in (one.multi_vector, other.multi_vector)
        ]
        found["multi_vector"] = float(np.min(list(map(lowest_cosine, *of_texts)), initial=1.0))
    return found
