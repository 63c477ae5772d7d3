"""ADORE (Zhan et al. 2021, 2104.08051): only queries learn, from what the frozen passages make them retrieve now.

Every step searches the whole corpus with the query encoder as it is; what it finds wrongly are its negatives. No
passage is encoded twice, so hundreds of negatives cost little, and an index of the passages stays valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoded, Side, Similarity
from bessemer.training.batches import Row, TrainingData, TrainingSet, require_examples, write_batch
from bessemer.training.dev_pool import OverPool, Tunable
from bessemer.training.hardware import mini_batch_tokens
from bessemer.training.losses import batch_loss
from bessemer.training.mini_batches import Features, MiniBatches
from bessemer.training.tasks import Batch, dense_vectors, of_part, settled_batch_size, unused_scores

SEARCHED = 65_536
"""Passages scored at once: a block of scores of 64 queries has 16 MiB."""


class FrozenPassagesTask:
    """Queries with judged passages whose vectors stay as they were; ``n_negatives`` are retrieved anew in each step."""

    def __init__(self, data: TrainingData, encoder: DenseEncoder, config: FinetuneConfig, seed: int) -> None:
        """Raises DataError when no query has a relevant passage, ConfigError for a loss that does not fit."""
        encoder = of_part(encoder, data.task, data.settings)
        config = data.settings or config
        self.name, self.turn = data.name, 0
        self.parts: Mapping[str, Tensor] = {}
        self._encoder = encoder
        self.examples = TrainingSet(data.judged, data.passages, (), 0, seed)
        require_examples(self.examples, data.name)
        self._n_negatives = config.n_negatives
        self.pieces = MiniBatches(encoder, config.mini_batch_tokens or mini_batch_tokens(encoder))
        self._query_tokens = self.pieces.tokenize([query.searched_text for query in data.judged.queries], "query")
        n_tokens = float(np.mean([len(ids) for ids in self._query_tokens]))
        self._asked_batch_size = settled_batch_size(config, encoder, len(self.examples), n_tokens, self.name)
        self.batch_size = min(self._asked_batch_size, len(self.examples))
        texts = [passage.indexed_text for passage in data.passages]
        self._passages = torch.from_numpy(encoder.encode(texts, "passage")).to(encoder.device)  # (N, d)
        self._never = self.examples.same_texts()
        self._batch_loss = batch_loss(config, encoder.dimension, normalised=encoder.similarity == "cosine")
        self._unused = unused_scores(data, config.loss)

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, examples: Sequence[int]) -> Batch:
        pairs = [self.examples.pairs[i] for i in examples]
        before = self.pieces.n_padded_tokens
        found = self.pieces([self._query_tokens[query] for query, _ in pairs], "query")
        never = [torch.tensor(self._never[query]) for query, _ in pairs]
        positives = torch.tensor([positive for _, positive in pairs])
        return {**found, "n_tokens": self.pieces.n_padded_tokens - before, "positives": positives, "never": never}

    def mini_batches(self, batch: Batch) -> list[Features]:
        features: list[Features] = batch["features"]
        return features

    def embed(self, model: nn.Module, features: Features) -> Tensor:
        return dense_vectors(self._encoder, model, features)

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        """Over the positives of the batch and the nearest passages of each query that are not relevant to it."""
        queries = torch.cat(list(embeddings))[batch["order"]]
        hardest = self.retrieve(queries.detach(), batch["never"])
        columns, inverse = torch.unique(torch.cat([batch["positives"], hardest.flatten()]), return_inverse=True)
        excluded = torch.stack([torch.isin(columns, never) for never in batch["never"]])
        return self._batch_loss(queries, self._passages[columns], inverse[: len(queries)], excluded)

    def retrieve(self, queries: Tensor, never: Sequence[Tensor]) -> Tensor:
        """(B, n) positions of the nearest passages to ``queries`` (B, d), without those that are never negatives."""
        best = queries.new_zeros(len(queries), 0)
        found = torch.zeros(len(queries), 0, dtype=torch.long, device=queries.device)
        for start in range(0, len(self._passages), SEARCHED):
            with torch.autocast(device_type=queries.device.type, enabled=False):
                scores = queries.float() @ self._passages[start : start + SEARCHED].T
            for row, positions in enumerate(never):
                here = positions[(positions >= start) & (positions < start + scores.shape[1])] - start
                scores[row, here] = float("-inf")
            positions = torch.arange(start, start + scores.shape[1], device=queries.device).expand_as(scores)
            both, where = torch.cat([best, scores], dim=1), torch.cat([found, positions], dim=1)
            best, order = both.topk(min(self._n_negatives, both.shape[1]), dim=1)
            found = where.gather(1, order)
        return found

    def write(self, examples: Sequence[int], folder: Path) -> Path:
        rows = [Row(*self.examples.pairs[i], ()) for i in examples]
        return write_batch(self.examples, rows, folder)

    def notes(self) -> tuple[str, ...]:
        own = f"only the query side was trained, against {self._n_negatives} live negatives per query"
        return (*self.examples.notes(self._asked_batch_size), own, *self._unused)


Known = dict[tuple[str, tuple[str, ...]], Encoded]
"""(Fingerprint, texts) -> their vectors."""


class OtherPassages:
    """Queries by one encoder, passages by another; each list of passages is encoded once."""

    def __init__(self, queries: Tunable, passages: Tunable, known: Known) -> None:
        self._queries, self._passages, self._known = queries, passages, known

    @property
    def similarity(self) -> Similarity:
        return self._queries.similarity

    def fingerprint_of(self, side: Side) -> str:
        return (self._queries if side == "query" else self._passages).fingerprint_of(side)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._queries.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        key = (self._passages.fingerprint_of("passage"), tuple(texts))
        if key not in self._known:
            self._known[key] = self._passages.encode_passages(texts)
        return self._known[key]

    def for_task(self, task: str) -> OtherPassages:
        return OtherPassages(self._queries.for_task(task), self._passages.for_task(task), self._known)


@dataclass(frozen=True)
class FrozenPool(OverPool):
    """``pool`` whose passages are encoded by ``passages``, whatever the encoder of the queries has become."""

    passages: DenseEncoder
    known: Known = field(default_factory=dict)

    def scores(self, encoder: Tunable) -> NDArray[np.float64]:
        return self.pool.scores(OtherPassages(encoder, self.passages, self.known))
