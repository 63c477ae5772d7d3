"""Unified encoder: a dense vector, weighted tokens and token vectors of each text from one pass (BGE-M3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from bessemer.encoders.active_dimensions import ActiveDimensions
from bessemer.encoders.dense import SLAB, DenseEncoder, Features, TokenIds
from bessemer.encoders.encoder import OUTPUTS, Encoded, Output, Side
from bessemer.encoders.explanation import Explanation, explained
from bessemer.encoders.head_base import refuse_unfit, vocabulary_size
from bessemer.encoders.head_files import write_heads
from bessemer.encoders.pair_scores import PairScores, score_pairs
from bessemer.encoders.precision import lowest_cosines
from bessemer.encoders.runtime import ENCODED, Progress
from bessemer.encoders.unified_heads import Represented, SparseStart, UnifiedHeads
from bessemer.encoders.unified_outputs import (
    BatchOutputs,
    OutputsInOrder,
    kept_vectors,
    outputs_of_nothing,
    sparse_rows,
)
from bessemer.encoders.unified_settings import LaneWeights, UnifiedSettings


class UnifiedEncoder(DenseEncoder):
    """A dense encoder whose transformer carries a sparse and a multi-vector head (BGE-M3, arXiv 2402.03216).

    ``model`` is a plain ``SentenceTransformer``; the heads are a submodule of its first module, whose forward pass
    ignores them: whatever copies, trains, mixes or hashes the weights of ``model`` does so with theirs. ``n_pruned``
    counts, per side, the sparse weights beyond ``settings.top_weights`` of a text that were cut away; ``active`` counts
    those that stay, with those of copies for other tasks or settings.

    A text without a word (empty, or special tokens alone) has a dense vector, an empty sparse row and no token
    vectors: its sparse and multi-vector scores are 0. ``sparse_start`` is None but for heads made by `with_heads`.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        name: str,
        heads: UnifiedHeads,
        settings: UnifiedSettings | None = None,
        **options: Any,
    ) -> None:
        """Puts ``heads`` into ``model``. ``options`` as DenseEncoder's. Raises ConfigError for static models and for
        causal ones."""
        super().__init__(model, name, **options)
        refuse_unfit(self._first, name)
        self._first.heads = heads.to(self.device)
        self.settings = settings or UnifiedSettings()
        self.sparse_start: SparseStart | None = None
        self.n_pruned: dict[str, int] = {"query": 0, "passage": 0}
        self.active = ActiveDimensions()

    @property
    def heads(self) -> UnifiedHeads:
        heads: UnifiedHeads = self._first.heads
        return heads

    @property
    def multi_vector_dimension(self) -> int:
        return self.heads.multi_vector.out_features

    @property
    def vocabulary_size(self) -> int:
        return vocabulary_size(self._first)

    @property
    def lane_weights(self) -> LaneWeights:
        return self.settings.lane_weights

    @property
    def content_key(self) -> str:
        """As the dense encoder's, with the settings."""
        return f"{super().content_key}:{self.settings}"

    def _beside_weights(self) -> dict[str, Any]:
        return {**super()._beside_weights(), "special_token_ids": self.heads.special_ids.tolist()}

    def independent_copy(self) -> Self:
        other = super().independent_copy()
        other.n_pruned = {"query": 0, "passage": 0}
        return other

    def with_settings(self, **changes: Any) -> Self:
        """This encoder, its weights shared, with other ``lane_weights``, ``top_weights`` or
        ``multi_vector_precision``."""
        other = self.with_prompts({})
        other.settings = replace(self.settings, **changes)
        return other

    def encode_queries(self, texts: Sequence[str], outputs: Sequence[Output] = ("dense",)) -> Encoded:
        """The ``outputs`` asked for, from one pass, with the query prompt. Raises ArtifactError if any number is not
        finite."""
        return self._encode_outputs(texts, "query", outputs)

    def encode_passages(self, texts: Sequence[str], outputs: Sequence[Output] = ("dense",)) -> Encoded:
        """The ``outputs`` asked for, from one pass, with the passage prompt. Raises ArtifactError if any number is
        not finite."""
        return self._encode_outputs(texts, "passage", outputs)

    def represent(self, features: Features, outputs: Sequence[Output] = OUTPUTS) -> Represented:
        """Differentiable forward pass: ``features`` to representations. Takes the training mode, gradients and
        autocast of the caller. What is not among ``outputs`` is not computed, and empty: dense (n, 0), weights (n, 0),
        vectors (n, L, 0)."""
        hidden, pooled = self._states(features, self.model)
        token_ids, attention_mask = features["input_ids"], features["attention_mask"]
        mask, nothing = self.heads.token_mask(token_ids, attention_mask), hidden.new_empty(0, dtype=torch.float32)
        return Represented(
            self.settled(pooled) if "dense" in outputs else nothing.expand(len(token_ids), 0),
            self.heads.weights(hidden, token_ids, attention_mask)
            if "sparse" in outputs
            else nothing.expand(len(token_ids), 0),
            self.heads.vectors(hidden, mask) if "multi_vector" in outputs else nothing.expand(*token_ids.shape, 0),
            token_ids,
            mask,
        )

    def compute_score(self, pairs: Sequence[tuple[str, str]], outputs: Sequence[Output] = OUTPUTS) -> PairScores:
        """Scores of (query, passage) pairs, in the ``outputs`` asked for and together. Every distinct text is encoded
        once, and its outputs are held until the end; time and memory are linear in pairs."""
        queries = {query: row for row, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
        passages = {passage: row for row, passage in enumerate(dict.fromkeys(passage for _, passage in pairs))}
        return score_pairs(
            self.encode_queries(list(queries), outputs),
            self.encode_passages(list(passages), outputs),
            np.array([queries[query] for query, _ in pairs], dtype=np.int64),
            np.array([passages[passage] for _, passage in pairs], dtype=np.int64),
            self.lane_weights,
        )

    def explain(self, query: str, passage: str) -> Explanation:
        """Which tokens carried the sparse score of one pair, and which passage token each query token matched."""
        left, right = self.encode_queries([query], OUTPUTS), self.encode_passages([passage], OUTPUTS)
        return explained(left, right, self.lane_weights, self.token_strings)

    def token_strings(self, token_ids: Sequence[int]) -> list[str]:
        """The text that each token stands for, without the blanks around it; the tokenizer's own name for a token
        that is no text by itself (a special token, a piece of a character)."""
        tokenizer = self._first.tokenizer
        texts = [tokenizer.decode([token_id]).strip() for token_id in token_ids]
        names = tokenizer.convert_ids_to_tokens(list(token_ids))
        return [name if not text or "\ufffd" in text else text for text, name in zip(texts, names, strict=True)]

    def save(self, folder: str | Path) -> None:
        """As the dense encoder, with the head files of both layouts beside it."""
        super().save(folder)
        write_heads(Path(folder), self.heads, self.settings)

    def _encode_outputs(self, texts: Sequence[str], side: Side, outputs: Sequence[Output]) -> Encoded:
        if not outputs or set(outputs) - set(OUTPUTS):
            raise ValueError(f"outputs {tuple(outputs)}: choose among {', '.join(OUTPUTS)}")
        gathered = OutputsInOrder(len(texts))
        gathered.put(np.empty(0, dtype=np.int64), self._nothing(outputs))
        progress = Progress(len(texts), ENCODED[side])
        for start in range(0, len(texts), SLAB):
            token_ids, n_cut = self._tokenize(texts[start : start + SLAB], side)
            self.n_truncated[side] += n_cut
            self._settle_precision(token_ids, side)
            for rows, batch in self._output_batches(token_ids, side, self.bf16, outputs, progress):
                gathered.put(start + rows, batch)
        self._refuse_damage(gathered.n_bad, len(texts))
        self.n_pruned[side] += gathered.n_pruned
        encoded = gathered.encoded()
        if encoded.sparse is not None:
            self.active.count(encoded.sparse, side)
        return encoded

    def _output_batches(
        self, token_ids: TokenIds, side: Side, bf16: bool, outputs: Sequence[Output], progress: Progress | None = None
    ) -> Iterable[tuple[NDArray[np.int64], BatchOutputs]]:
        return self._batched(partial(self._batch_outputs, outputs=outputs), token_ids, side, bf16, progress)

    def _batch_outputs(
        self, features: Features, modules: Iterable[nn.Module], outputs: Sequence[Output]
    ) -> BatchOutputs:
        hidden, pooled = self._states(features, modules)
        token_ids, attention_mask = features["input_ids"], features["attention_mask"]
        is_good = torch.ones(len(token_ids), dtype=torch.bool, device=hidden.device)
        dense = sparse = multi_vector = None
        n_pruned = 0
        if "dense" in outputs:
            vectors = self.settled(pooled)
            is_good &= torch.isfinite(vectors).all(dim=1)
            dense = vectors.cpu().numpy()
        if "sparse" in outputs:
            weights = self.heads.weights(hidden, token_ids, attention_mask)
            is_good &= torch.isfinite(weights).all(dim=1)
            sparse, n_pruned = sparse_rows(
                weights.cpu().numpy(), token_ids.cpu().numpy(), self.vocabulary_size, self.settings.top_weights
            )
        if "multi_vector" in outputs:
            mask = self.heads.token_mask(token_ids, attention_mask)
            with torch.autocast(hidden.device.type, torch.bfloat16, enabled=hidden.dtype == torch.bfloat16):
                vectors = self.heads.vectors(hidden, mask)
            is_good &= torch.isfinite(vectors).flatten(1).all(dim=1)
            multi_vector = kept_vectors(
                vectors[mask].cpu().numpy(),
                token_ids[mask].cpu().numpy(),
                mask.sum(dim=1).cpu().numpy(),
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

    def _bf16_agreement(self, token_ids: TokenIds, side: Side) -> float:
        """Of all outputs, whichever is asked for first: the precision is one for all."""
        plain, found = self.with_settings(multi_vector_precision="float32"), []
        for bf16 in (True, False):
            gathered = OutputsInOrder(len(token_ids))
            for rows, batch in plain._output_batches(token_ids, side, bf16, OUTPUTS):
                gathered.put(rows, batch)
            found.append(gathered.encoded())
        return float(np.min(list(lowest_cosines(*found).values())))  # NaN, where there is one

    def _states(self, features: Features, modules: Iterable[nn.Module]) -> tuple[Tensor, Tensor]:
        """Last hidden states (n, L, h) and what pooling makes of them (n, d)."""
        first, *rest = modules
        current: dict[str, Any] = first(dict(features))
        hidden: Tensor = current["token_embeddings"]
        for module in rest:
            current = module(current)
        return hidden, current["sentence_embedding"]
