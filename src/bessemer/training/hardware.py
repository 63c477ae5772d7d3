"""What training asks of the machine it runs on."""

from __future__ import annotations

import resource
import sys

from bessemer.encoders.dense import DenseEncoder

CPU_TOKENS, GPU_TOKENS = 1024, 65_536
CPU_WHOLE_GRAPH, GPU_WHOLE_GRAPH = 32_768, 131_072


def mini_batch_tokens(encoder: DenseEncoder) -> int:
    """Padded tokens per mini-batch: small ones stay in a CPU's cache and waste less padding; a GPU wants its fill."""
    return CPU_TOKENS if encoder.device == "cpu" else GPU_TOKENS


def whole_graph_tokens(encoder: DenseEncoder) -> int:
    """Padded tokens up to which a batch keeps the graphs of all its mini-batches (about 4 GB for MiniLM on a CPU)."""
    if encoder.is_static:  # a lookup and a mean: there is no graph to speak of
        return sys.maxsize
    return CPU_WHOLE_GRAPH if encoder.device == "cpu" else GPU_WHOLE_GRAPH


def peak_memory_bytes() -> int:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
