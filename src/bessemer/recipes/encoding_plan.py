"""What a dry run says of encoding: how many texts there are, how many vectors are kept, how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.config import FinetuneConfig
from bessemer.encoders.cache import missing
from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder
from bessemer.search.retriever import LANE_DEPTH
from bessemer.training.dev_pool import RANDOM_PASSAGES
from bessemer.training.interpolation import ALPHAS
from bessemer.types import Passage, Query

TO_RUN = "to run"
BACKWARD = 3.0
"""A training step costs about this many forward passes over the same texts."""
EVALUATIONS = 10
"""Where their number is not known before the steps are."""
N_TIMED = 48


def plan_of(
    steps: Sequence[Mapping[str, Any]], llm: Mapping[str, Any] | None = None, out: str | None = None
) -> dict[str, Any]:
    """As `adapt`'s plan, of a verb that knows all its calls."""
    return {
        "steps": list(steps),
        "llm": llm,
        "llm_unknown": [],
        "llm_cost": llm["cost"] if llm else 0.0,
        "out": out,
    }


def step_of(name: str, seconds: float | None = None, state: str = TO_RUN) -> dict[str, Any]:
    """``seconds``: None where they are not known."""
    return {"step": name, "state": state, "seconds": seconds}


def encoding_step(
    name: str, encoder: Encoder, passages: Sequence[Passage], queries: Sequence[Query], embeddings: Path | None
) -> dict[str, Any]:
    """A step that takes about as long as its texts take to encode, with ``"encoding"``: ``{"passages", "queries",
    "kept"}``, texts in all, and those of both whose vectors are in the folder ``embeddings`` (None: it keeps none).
    """
    texts, asked = [passage.indexed_text for passage in passages], [query.searched_text for query in queries]
    left_texts, left_asked = texts, asked
    if embeddings is not None and isinstance(encoder, DenseEncoder | CpuEncoder):  # of others nothing is kept
        left_texts = missing(encoder, embeddings, texts, "passage")
        left_asked = missing(encoder, embeddings, asked, "query")
    kept = len(texts) + len(asked) - len(left_texts) - len(left_asked)
    seconds = len(left_texts) * seconds_per_text(encoder.encode_passages, left_texts)
    seconds += len(left_asked) * seconds_per_text(encoder.encode_queries, left_asked)
    return {**step_of(name, seconds), "encoding": {"passages": len(texts), "queries": len(asked), "kept": kept}}


def is_kept(step: Mapping[str, Any]) -> bool:
    """Whether there is nothing left to encode."""
    found = step["encoding"]
    return bool(found["passages"] + found["queries"] == found["kept"])


def seconds_per_text(encode: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> float:
    """By encoding a few of ``texts``; 0 without any."""
    if not texts:
        return 0.0
    sample = texts[:: -(-len(texts) // N_TIMED)]
    encode(sample[:4])  # the first call pays for much that others do not
    started = time.perf_counter()
    encode(sample)
    return (time.perf_counter() - started) / len(sample)


def training_seconds(config: FinetuneConfig, n_examples: int, n_dev: int, n_passages: int, each: float) -> float:
    """At most, with ``each`` second per text: the examples of all epochs, and the dev pool as often as it is looked
    at."""
    size = config.per_device_train_batch_size
    n_trained = config.num_train_epochs * n_examples
    if config.max_steps > 0 and size != "auto":
        n_trained = config.max_steps * size
    trained = n_trained * (2 + config.n_negatives) * BACKWARD
    pool = min(n_passages, RANDOM_PASSAGES + (2 * LANE_DEPTH + 1) * n_dev) if n_dev else 0
    n_evaluations = 1 / config.eval_steps if config.eval_steps < 1 else EVALUATIONS
    return each * (trained + (n_evaluations + 1 + len(ALPHAS)) * pool)
