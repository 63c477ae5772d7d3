"""What training does differently on a CPU. Figures: docs/log.md."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bessemer.encoders.dense import DenseEncoder

CPU_TOKENS, GPU_TOKENS = 1024, 65_536
LONGEST_PLAIN = 1024


def mini_batch_tokens(encoder: DenseEncoder) -> int:
    """Padded tokens per mini-batch: small ones stay in a CPU's cache and waste less padding; a GPU wants its fill."""
    return CPU_TOKENS if encoder.device == "cpu" else GPU_TOKENS


@contextmanager
def attention_for_training(encoder: DenseEncoder, *, bf16: bool) -> Iterator[None]:
    """Plain attention on a CPU in bf16, where the backward pass of torch's fused one is the slower of the two.

    Not for long texts: plain attention holds (length x length) scores for every head and layer.
    """
    too_long = (encoder.max_length or 0) > LONGEST_PLAIN
    if encoder.is_static or encoder.device != "cpu" or not bf16 or too_long:
        yield
        return
    transformer = encoder.model[0].model
    before = transformer.config._attn_implementation
    transformer.set_attn_implementation("eager")
    try:
        yield
    finally:
        transformer.set_attn_implementation(before)


def peak_memory_bytes() -> int:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
