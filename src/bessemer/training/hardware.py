"""What training asks of the machine it runs on."""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
from pathlib import Path

from bessemer.encoders.sparse import SparseEncoder
from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError

CPU_TOKENS, GPU_TOKENS = 1024, 65_536
CPU_WHOLE_GRAPH, GPU_WHOLE_GRAPH = 32_768, 131_072
BYTES_PER_TOKEN = 1 << 17
"""Of the graph of MiniLM."""
LEAST_BATCH, LARGEST_BATCH = 16, 1024
LEAST_STEPS = 25


def mini_batch_tokens(encoder: Trainable) -> int:
    """Padded tokens per mini-batch: small ones stay in a CPU's cache and waste less padding; a GPU wants its fill."""
    return CPU_TOKENS if encoder.device == "cpu" else int(_share(encoder) * GPU_TOKENS)


def whole_graph_tokens(encoder: Trainable) -> int:
    """Padded tokens up to which a batch keeps the graphs of all its mini-batches (about 4 GB for MiniLM on a CPU)."""
    if encoder.is_static:  # a lookup and a mean: there is no graph to speak of
        return sys.maxsize
    return int(_share(encoder) * (CPU_WHOLE_GRAPH if encoder.device == "cpu" else GPU_WHOLE_GRAPH))


def _share(encoder: Trainable) -> float:
    """Of the tokens for which a dense model has memory: SPLADE has up to three numbers of each at once for every
    word of the vocabulary (logits, masked ones, their logarithms)."""
    own = 12 * encoder.dimension if isinstance(encoder, SparseEncoder) else 0
    return BYTES_PER_TOKEN / (BYTES_PER_TOKEN + own)


def auto_batch_size(encoder: Trainable, n_examples: int, tokens_per_example: float) -> int:
    """Queries per step for ``auto``: the largest power of two between 16 and 1024 with which

    - an epoch has 25 steps or more: a larger batch has more negatives, but few steps teach little;
    - the graphs of the whole batch fit into memory. GradCache would take any batch at the same gradient, for a forward
      pass more; below that limit a larger batch costs nothing.

    A rule of thumb from the two costs, not the outcome of a sweep. The same data and kind of device, the same size.
    """
    that_fit = int(whole_graph_tokens(encoder) / max(1.0, tokens_per_example))
    most = min(LARGEST_BATCH, n_examples // LEAST_STEPS, that_fit)
    return max(LEAST_BATCH, 1 << max(0, most.bit_length() - 1))


def claim_checkpoints(folder: Path) -> None:
    """Makes the folder of checkpoints. Raises ConfigError where nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{folder}: checkpoints cannot be written ({error.strerror}); make it writable or choose a --workspace"
        ) from None


def require_room_for_checkpoints(encoder: Trainable, folder: Path, save_total_limit: int) -> None:
    """Raises ConfigError where the disk cannot hold what training writes: better before step 1 than hours later."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in encoder.model.state_dict().values())
    frozen = sum(p.numel() * p.element_size() for p in encoder.model.parameters() if not p.requires_grad)
    # each checkpoint: what trains and two moments of Adam; one more is written before the oldest goes; then the model
    kept = max(2, save_total_limit)  # the library keeps the best and the last, whatever is asked
    needed = (kept + 1) * 3 * (weights - frozen) + weights
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ConfigError(
            f"--workspace {folder}: {free / 1e9:.1f} GB free, and checkpoints need {needed / 1e9:.1f} GB; free space "
            "or choose another folder"
        )


def peak_memory_bytes() -> int:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
