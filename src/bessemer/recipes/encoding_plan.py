"""What a dry run says of encoding: how many texts there are, how many vectors are kept, how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bessemer.config import FinetuneConfig
from bessemer.encoders.cache import missing
from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder
from bessemer.recipes.plan import step_of
from bessemer.search.retriever import LANE_DEPTH
from bessemer.training.dev_pool import RANDOM_PASSAGES
from bessemer.training.interpolation import ALPHAS
from bessemer.types import Passage, Query

BACKWARD = 3.0
"""A training step costs about this many forward passes over the same texts."""
EVALUATIONS = 10
"""Where their number is not known before the steps are."""
N_TIMED = 48


class ToEncode(NamedTuple):
    """``passages`` and ``queries``: the texts whose vectors are not kept, of ``n_passages`` and ``n_queries``."""

    passages: Sequence[str]
    queries: Sequence[str]
    n_passages: int
    n_queries: int

    @property
    def n_left(self) -> int:
        return len(self.passages) + len(self.queries)

    def step(self, name: str, seconds: float) -> dict[str, Any]:
        """With ``"encoding"``: ``{"passages", "queries", "kept"}``, texts in all, and those of both with vectors."""
        n_kept = self.n_passages + self.n_queries - self.n_left
        counts = {"passages": self.n_passages, "queries": self.n_queries, "kept": n_kept}
        return {**step_of(name, seconds), "encoding": counts}


def to_encode(
    encoder: Encoder, passages: Sequence[Passage], queries: Sequence[Query], embeddings: Path | None
) -> ToEncode:
    """Vectors are kept in the folder ``embeddings`` (None: it keeps none)."""
    texts, asked = [passage.indexed_text for passage in passages], [query.searched_text for query in queries]
    if embeddings is None or not isinstance(encoder, DenseEncoder | CpuEncoder):  # of others nothing is kept
        return ToEncode(texts, asked, len(texts), len(asked))
    left = missing(encoder, embeddings, texts, "passage"), missing(encoder, embeddings, asked, "query")
    return ToEncode(*left, len(texts), len(asked))


def encoding_step(
    name: str, encoder: Encoder, passages: Sequence[Passage], queries: Sequence[Query], embeddings: Path | None
) -> dict[str, Any]:
    """A step that takes about as long as those of its texts take to encode that are not kept in ``embeddings``."""
    found = to_encode(encoder, passages, queries, embeddings)
    seconds = len(found.passages) * seconds_per_text(encoder.encode_passages, found.passages)
    seconds += len(found.queries) * seconds_per_text(encoder.encode_queries, found.queries)
    return found.step(name, seconds)


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
