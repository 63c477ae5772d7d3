"""Unified models as CPU builds: three outputs of one graph, laid out as the model itself lays them out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.active_dimensions import ActiveDimensions
from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.cpu.manifest import UnifiedFacts
from bessemer.encoders.encoder import OUTPUTS, Encoded, Output, Side
from bessemer.encoders.explanation import Explanation, explained
from bessemer.encoders.unified_outputs import (
    BatchOutputs,
    OutputsInOrder,
    kept_vectors,
    outputs_of_nothing,
    sparse_rows,
)
from bessemer.encoders.unified_settings import LaneWeights, UnifiedSettings


class CpuUnifiedEncoder(CpuEncoder):
    """A build of a unified model. ``settings``, ``n_pruned`` and ``active`` as `UnifiedEncoder` has them."""

    def __init__(self, *given: Any, **lengths: Any) -> None:
        """As CpuEncoder's, of a build with ``unified``."""
        super().__init__(*given, **lengths)
        facts = self.build.unified
        assert facts is not None
        self._facts: UnifiedFacts = facts
        self._special_ids = np.array(facts.special_ids, dtype=np.int64)
        self.vocabulary_size, self.multi_vector_dimension = facts.vocabulary_size, facts.multi_vector_dimension
        self.settings = UnifiedSettings(
            LaneWeights(*facts.lane_weights), facts.top_weights, facts.multi_vector_precision
        )
        self.n_pruned: dict[str, int] = {"query": 0, "passage": 0}
        self.active = ActiveDimensions()

    @property
    def lane_weights(self) -> LaneWeights:
        return self.settings.lane_weights

    @property
    def content_key(self) -> str:
        """As the dense build's, with the settings."""
        return f"{super().content_key}:{self.settings}"

    def for_task(self, task: str, max_length: int | None = None, query_max_length: int | None = None) -> Self:
        other = super().for_task(task, max_length, query_max_length)
        other.n_pruned = {"query": 0, "passage": 0}
        return other

    def with_settings(self, **changes: Any) -> Self:
        """This encoder with other ``lane_weights``, ``top_weights`` or ``multi_vector_precision``."""
        other = copy.copy(self)
        other.settings = replace(self.settings, **changes)
        return other

    def encode_queries(self, texts: Sequence[str], outputs: Sequence[Output] = ("dense",)) -> Encoded:
        """The ``outputs`` asked for, with the query prompt. Raises ArtifactError if any number is not finite."""
        return self._encode_outputs(texts, "query", outputs)

    def encode_passages(self, texts: Sequence[str], outputs: Sequence[Output] = ("dense",)) -> Encoded:
        """The ``outputs`` asked for, with the passage prompt. Raises ArtifactError if any number is not finite."""
        return self._encode_outputs(texts, "passage", outputs)

    def explain(self, query: str, passage: str) -> Explanation:
        """Which tokens carried the sparse score of one pair, and which passage token each query token matched."""
        left, right = self.encode_queries([query], OUTPUTS), self.encode_passages([passage], OUTPUTS)
        return explained(left, right, self.lane_weights, self.token_strings)

    def token_strings(self, token_ids: Sequence[int]) -> list[str]:
        """The text that each token stands for, without the blanks around it; the tokenizer's own name for a token
        that is no text by itself (a special token, a piece of a character)."""
        return self._tokenizer.strings(token_ids)

    def _encode_outputs(self, texts: Sequence[str], side: Side, outputs: Sequence[Output]) -> Encoded:
        if not outputs or set(outputs) - set(OUTPUTS):
            raise ValueError(f"outputs {tuple(outputs)}: choose among {', '.join(OUTPUTS)}")
        gathered = OutputsInOrder(len(texts))
        gathered.put(np.empty(0, dtype=np.int64), self._nothing(outputs))
        for rows, input_ids, mask, found in self._batches(texts, side):
            gathered.put(rows, self._laid_out(input_ids, mask.astype(bool), found, outputs))
        self._refuse_damage(gathered.n_bad, len(texts))
        self.n_pruned[side] += gathered.n_pruned
        encoded = gathered.encoded()
        if encoded.sparse is not None:
            self.active.count(encoded.sparse, side)
        return encoded

    def _laid_out(
        self, input_ids: NDArray[np.int64], mask: NDArray[np.bool_], found: Any, outputs: Sequence[Output]
    ) -> BatchOutputs:
        is_good = np.ones(len(input_ids), dtype=bool)
        is_word = mask & ~np.isin(input_ids, self._special_ids)
        dense = sparse = multi_vector = None
        n_pruned = 0
        if "dense" in outputs:
            dense = found["dense"]
            is_good &= np.isfinite(dense).all(axis=1)
        if "sparse" in outputs:
            weights = np.where(is_word, found["weights"], np.float32(0))
            is_good &= np.isfinite(weights).all(axis=1)
            sparse, n_pruned = sparse_rows(weights, input_ids, self.vocabulary_size, self.settings.top_weights)
        if "multi_vector" in outputs:
            has_vector = _has_vector(mask, is_word)
            is_good &= (np.isfinite(found["vectors"]).all(axis=2) | ~has_vector).all(axis=1)
            multi_vector = kept_vectors(
                found["vectors"][has_vector],
                input_ids[has_vector],
                has_vector.sum(axis=1),
                self.settings.multi_vector_precision,
            )
        return BatchOutputs(dense, sparse, multi_vector, n_pruned, int((~is_good).sum()))

    def _nothing(self, outputs: Sequence[Output]) -> BatchOutputs:
        return outputs_of_nothing(
            outputs,
            self.dimension,
            self.vocabulary_size,
            self.multi_vector_dimension,
            self.settings.multi_vector_precision,
        )


def _has_vector(mask: NDArray[np.bool_], is_word: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n, L): as `UnifiedHeads.token_mask`: all tokens but the first, of texts that hold a word."""
    is_first = mask & (np.cumsum(mask, axis=1) == 1)
    return np.asarray(mask & ~is_first & np.any(is_word, axis=1, keepdims=True), dtype=bool)
