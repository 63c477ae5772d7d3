"""What makes a training step on a CPU fast: same mathematics, cheaper. Ratios: benchmarks/train.json."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from bessemer.encoders.trainable import Trainable

ATTENTION = "bessemer_bf16"
PLAIN_ATTENTION = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"})
"""Model types whose attention is softmax(q k / sqrt(d) + mask) v and nothing more."""
LONGEST_PLAIN = 1024
"""Above this many tokens the (length x length) scores of every head and layer no longer fit: fused attention then."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
MMAP_THRESHOLD = 32 << 20
"""What glibc's own rule grows to where large blocks come and go; setting either number ends that rule."""


@contextmanager
def fast_training(encoder: Trainable, *, bf16: bool) -> Iterator[None]:
    """Within it, a transformer on a CPU trains with cheap dropout masks, a sparse gradient of its token table and,
    in bf16, attention whose scores stay in bf16. Elsewhere (GPU, static models) nothing changes."""
    if encoder.is_static or encoder.device != "cpu":
        yield
        return
    transformer = encoder.model[0].model
    with ExitStack() as stack:
        stack.enter_context(memory_kept())
        stack.enter_context(_cheap_dropout(transformer))
        stack.enter_context(_sparse_token_gradient(transformer.get_input_embeddings()))
        if bf16 and (encoder.max_length or 0) <= LONGEST_PLAIN:
            stack.enter_context(_plain_attention(transformer))
        yield


@contextmanager
def memory_kept() -> Iterator[None]:
    """glibc keeps freed memory for the next step: getting its pages anew from the system costs more than a tenth of
    it. They go back in the end."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):  # not glibc
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MMAP_THRESHOLD)
        libc.malloc_trim(0)


@contextmanager
def _plain_attention(transformer: PreTrainedModel) -> Iterator[None]:
    """Unfused: the backward pass of torch's fused attention is the slower of the two on a CPU in bf16."""
    before = transformer.config._attn_implementation
    transformer.set_attn_implementation(ATTENTION if transformer.config.model_type in PLAIN_ATTENTION else "eager")
    try:
        yield
    finally:
        transformer.set_attn_implementation(before)


@contextmanager
def _cheap_dropout(transformer: nn.Module) -> Iterator[None]:
    parents = [
        (parent, name, child)
        for parent in transformer.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Dropout and not child.inplace
    ]
    for parent, name, child in parents:
        setattr(parent, name, ByteDropout(child.p).train(child.training))
    try:
        yield
    finally:
        for parent, name, child in parents:
            setattr(parent, name, child.train(parent.training))


@contextmanager
def _sparse_token_gradient(table: nn.Module) -> Iterator[None]:
    """Each mini-batch gives the gradient of its own tokens; a dense one would fill and add the whole table (30,522 x
    384 for MiniLM) as many times as a batch has mini-batches. The optimizer gets it dense, as always."""
    if not isinstance(table, nn.Embedding) or table.sparse or not table.weight.requires_grad:
        yield
        return

    def make_dense(weight: Tensor) -> None:
        if weight.grad is not None and weight.grad.is_sparse:
            weight.grad = weight.grad.to_dense()

    handle = table.weight.register_post_accumulate_grad_hook(make_dense)  # type: ignore[no-untyped-call]
    try:
        with sparse_gradient(table):
            yield
    finally:
        handle.remove()


@contextmanager
def sparse_gradient(table: nn.Embedding | nn.EmbeddingBag) -> Iterator[None]:
    """Within it, the gradient of a table is a sparse tensor with the rows that were looked up."""
    before = table.sparse
    table.sparse = True
    try:
        yield
    finally:
        table.sparse = before


class ByteDropout(nn.Module):
    """Dropout whose mask costs one random byte per element, an eighth of a draw of torch's generator.

    The probability is rounded to n/256 (0.1 becomes 26/256) and the kept values are scaled by that same share, so the
    expected output is the input.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        threshold = _threshold(self.p) if self.training else 0
        dropped: Tensor = _Dropout.apply(x, threshold) if threshold else x  # type: ignore[no-untyped-call]
        return dropped


def _threshold(p: float) -> int:
    return min(round(p * 256), 255)


def _keep_mask(shape: torch.Size, threshold: int) -> Tensor:
    """uint8 (shape): 1 where a random byte is at least ``threshold``."""
    n = shape.numel()
    draws = torch.empty(-(-n // 8), dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(torch.uint8)[:n].view(shape)
    return torch.ge(keep, threshold, out=keep)


def _drop(x: Tensor, keep: Tensor, threshold: int) -> Tensor:
    return keep.to(x.dtype).mul_(256 / (256 - threshold)).mul_(x)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        keep = _keep_mask(x.shape, threshold)
        ctx.save_for_backward(keep)
        ctx.threshold = threshold
        return _drop(x, keep, threshold)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _drop(gradient, ctx.saved_tensors[0], ctx.threshold), None


def bf16_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention for ``AttentionInterface``: (B, H, L, d) each to (B, L, H, d). Under autocast, ``query``, ``key`` and
    ``value`` come in bf16, and so do the probabilities stay; their softmax is summed in float32."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    threshold = _threshold(dropout) if module.training else 0
    out: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        query, key, value, attention_mask, scaling, threshold
    )
    return out.transpose(1, 2).contiguous(), None


class _Attention(torch.autograd.Function):
    """Keeps the probabilities and the dropout bytes for the backward pass, not the dropped probabilities: less memory
    is walked over, which is most of what attention over short texts costs."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, threshold: int
    ) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            scores = torch.matmul(query * scaling, key.transpose(2, 3))
            if mask is not None:
                lowest = torch.finfo(scores.dtype).min  # float32's lowest would round to -inf
                scores += mask.clamp(min=lowest).to(scores.dtype)
            probabilities = torch.softmax(scores, dim=-1)
            keep = _keep_mask(probabilities.shape, threshold) if threshold else None
            dropped = probabilities if keep is None else _drop(probabilities, keep, threshold)
            out = torch.matmul(dropped, value)
        ctx.save_for_backward(query, key, value, probabilities, keep)
        ctx.scaling, ctx.threshold = scaling, threshold
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        query, key, value, probabilities, keep = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            of_dropped = torch.matmul(gradient, value.transpose(2, 3))
            dropped = probabilities if keep is None else _drop(probabilities, keep, ctx.threshold)
            of_value = torch.matmul(dropped.transpose(2, 3), gradient)
            of_probabilities = of_dropped if keep is None else _drop(of_dropped, keep, ctx.threshold)
            of_scores = torch.ops.aten._softmax_backward_data(
                of_probabilities, probabilities, -1, probabilities.dtype
            ).mul_(ctx.scaling)
            of_query = torch.matmul(of_scores, key)
            of_key = torch.matmul(of_scores.transpose(2, 3), query)
        return of_query, of_key, of_value, None, None, None


AttentionInterface.register(ATTENTION, bf16_attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)
