"""Dense encoder over a sentence-transformers model: one vector per text."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from torch import Tensor, nn

from bessemer.encoders.encoder import Encoded, Side, Similarity
from bessemer.encoders.fingerprint import model_fingerprint
from bessemer.encoders.head_base import n_positions
from bessemer.encoders.memory_batches import MemoryBatches
from bessemer.encoders.model_tokenizer import model_tokenizer
from bessemer.encoders.precision import MIN_BF16_COSINE, bf16_modules, lowest_cosine
from bessemer.encoders.prompts import Prompts
from bessemer.encoders.runtime import ENCODED, Progress, has_native_bf16, without_progress_bars
from bessemer.encoders.tokens import Lengths, padded
from bessemer.encoders.weights import copied_weights, put_weights
from bessemer.encoders.weights_version import WeightsVersion
from bessemer.errors import ArtifactError, ConfigError

logger = logging.getLogger(__name__)

CPU_BATCH_TOKENS = 768
GPU_BATCH_TOKENS = 65_536
SLAB = 16_384
"""Texts whose token ids are held at once: sorting by length needs many, memory wants few."""
QUERY_KEY, PASSAGE_KEY = "_query", "_document"
"""What a task's name is followed by among the names of a model's prompts."""
N_CHECKED = 8
"""Texts on which bf16 is compared with fp32."""

TokenIds = Sequence[Sequence[int]]
Features = Mapping[str, Tensor]
T = TypeVar("T")


class DenseEncoder:
    """Queries and passages to vectors, with the model's own prompts, pooling and similarity.

    ``model`` stays a plain ``SentenceTransformer`` that may be trained; a bf16 copy for encoding follows its weights.
    ``n_truncated`` counts, per side, the encoded texts that were longer than the side's length.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        name: str,
        *,
        bf16: bool | None = None,
        max_length: int | None = None,
        query_max_length: int | None = None,
    ) -> None:
        """``max_length``: tokens of a passage with prompt and special tokens (default: the model's own limit; static
        models have none); ``query_max_length``: of a query (default: as ``max_length``). ``bf16`` None: where the
        hardware has it. Raises ConfigError for models that are no text encoders and for lengths they cannot take.
        """
        first = model[0]
        if not isinstance(first, Transformer | StaticEmbedding):
            raise ConfigError(f"{name}: a {type(first).__name__} model cannot be used; a Transformer or static one can")
        self.model = model
        self.name = name
        self.is_static = isinstance(first, StaticEmbedding)
        self.device = str(model.device)
        self.similarity: Similarity = _similarity(model, name)
        self.query_prompt, self.passage_prompt = _settle_prompts(model)
        self.task_prompts: Mapping[str, Prompts] = _task_prompts(model.prompts)
        self._first: Any = first
        self.tokenizer = model_tokenizer(first, name)
        self.query_max_length, self.max_length = self._lengths(max_length, query_max_length)
        self.bf16 = not self.is_static and (has_native_bf16(self.device) if bf16 is None else bf16)
        self._asked_bf16 = self.bf16
        self.n_truncated: dict[str, int] = {"query": 0, "passage": 0}
        self._batches = MemoryBatches(name, CPU_BATCH_TOKENS if self.device == "cpu" else GPU_BATCH_TOKENS)
        self._weights = WeightsVersion(model)
        self._fingerprint: tuple[object, str] | None = None
        self._bf16_modules: tuple[object, list[nn.Module]] | None = None

    def _lengths(self, passage: int | None, query: int | None) -> Lengths:
        own = self.tokenizer.own_lengths
        self.tokenizer.require_lengths((passage, query), self.n_positions, self.name)
        return Lengths(query or passage or own.query, passage or own.passage)

    @property
    def n_positions(self) -> int | None:
        """The most tokens that the transformer can tell the places of; None where it names no limit."""
        return None if self.is_static else n_positions(self._first)

    @property
    def dimension(self) -> int:
        return int(self.model.get_embedding_dimension())

    @property
    def fingerprint(self) -> str:
        """sha256 over weights, tokenizer, pooling, prompts and similarity; not over the path or the maximum lengths."""
        version = self._weights.now()
        if self._fingerprint is None or self._fingerprint[0] != version:
            digest = model_fingerprint(self.model, self.tokenizer.to_json(), self._beside_weights())
            self._fingerprint = (version, digest)
        return self._fingerprint[1]

    def _beside_weights(self) -> dict[str, Any]:
        """What else the fingerprint goes by."""
        return {
            "query_prompt": self.query_prompt,
            "passage_prompt": self.passage_prompt,
            "similarity": self.similarity,
            "padding_side": self.tokenizer.padding_side,
            "truncation_side": self.tokenizer.cut_side,
            "truncate_dim": self.model.truncate_dim,
        }

    def fingerprint_of(self, side: Side) -> str:
        """Of what encodes one side: the same for both where a model has but one encoder."""
        return self.fingerprint

    @property
    def content_key(self) -> str:
        """The fingerprint with all else that shapes vectors: lengths, the precision asked for, prompts of tasks."""
        key = f"{self.fingerprint}:{self.query_max_length}:{self.max_length}:{'bf16' if self._asked_bf16 else 'fp32'}"
        return f"{key}:{sorted(self.task_prompts.items())}" if self.task_prompts else key

    def independent_copy(self) -> Self:
        """This encoder with weights of its own: what trains the one does not move the other."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        other._first = other.model[0]
        other._weights = WeightsVersion(other.model)
        other.n_truncated = {"query": 0, "passage": 0}
        other._fingerprint = other._bf16_modules = None
        return other

    def with_prompts(self, prompts: Mapping[str, Prompts]) -> Self:
        """This encoder, its weights shared, with prompts for these tasks beside those that it has."""
        other = copy.copy(self)
        other.task_prompts = {**self.task_prompts, **prompts}
        return other

    def for_task(self, task: str, max_length: int | None = None, query_max_length: int | None = None) -> Self:
        """This encoder, its weights shared, with the prompts of ``task`` where it has any (else its own), and with
        other lengths where they are given. Raises ConfigError for lengths that it cannot take."""
        prompts = self.task_prompts.get(task, Prompts(self.query_prompt, self.passage_prompt))
        passage = max_length or self.max_length
        lengths = self._lengths(passage, query_max_length or max_length or self.query_max_length)
        same = (*prompts, *lengths) == (self.query_prompt, self.passage_prompt, self.query_max_length, self.max_length)
        if same:
            return self
        other = copy.copy(self)
        other.query_prompt, other.passage_prompt = prompts
        other.query_max_length, other.max_length = lengths
        other.n_truncated = {"query": 0, "passage": 0}
        other._fingerprint = other._bf16_modules = None
        return other

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Vectors (n, dimension) of queries, with the query prompt. Raises ArtifactError if any is not finite."""
        return Encoded(dense=self.encode(texts, "query"))

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        """Vectors (n, dimension) of passages, with the passage prompt. Raises ArtifactError if any is not finite."""
        return Encoded(dense=self.encode(texts, "passage"))

    def encode(self, texts: Sequence[str], side: Side, progress: Progress | None = None) -> NDArray[np.float32]:
        """Vectors (n, dimension) of texts of one side. Raises ArtifactError if any is not finite."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        progress = progress or Progress(len(texts), ENCODED[side])
        for start in range(0, len(texts), SLAB):
            token_ids, n_cut = self._tokenize(texts[start : start + SLAB], side)
            self.n_truncated[side] += n_cut
            self._settle_precision(token_ids, side)
            vectors[start : start + SLAB] = self._forward(token_ids, side, self.bf16, progress)
        self._refuse_damage(int((~np.isfinite(vectors)).any(axis=1).sum()), len(texts))
        return vectors

    def _refuse_damage(self, n_bad: int, n_texts: int) -> None:
        if n_bad:
            raise ArtifactError(f"{self.name}: {n_bad} of {n_texts} vectors are not finite; the weights are damaged")

    def settle_precision(self, texts: Sequence[str], side: Side) -> None:
        """Choose bf16 or fp32 on some of ``texts``, as the first encoding would; ``bf16`` tells the outcome."""
        if self.bf16 and self._bf16_is_stale():
            self._settle_precision(self._tokenize(_spread(texts), side)[0], side)

    def precision_of(self, side: Side) -> str:
        """In which one side is encoded, once it is settled."""
        return "bf16" if self.bf16 else "fp32"

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens per text, without prompt and special tokens, never truncated."""
        return self.tokenizer.count(texts)

    def lengths(self, texts: Sequence[str], side: Side) -> list[int]:
        """Tokens per text as ``side`` has them, with prompt and special tokens, never truncated."""
        return self.tokenizer.lengths([self._prompt(side) + text for text in texts])

    def tokenize(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Token ids per text: prompt and special tokens in, cut to the side's length. Does not count truncations."""
        return self._tokenize(texts, side)[0]

    def tokenize_counted(self, texts: Sequence[str], side: Side) -> tuple[list[list[int]], int]:
        """As `tokenize`, and how many texts were cut; ``n_truncated`` stays."""
        return self._tokenize(texts, side)

    def features(self, token_ids: TokenIds, side: Side) -> dict[str, Tensor]:
        """Model input on the device: (n, longest) ``input_ids`` and ``attention_mask``, or for static models the
        concatenated ``input_ids`` with (n,) ``offsets``."""
        if self.is_static:
            lengths = [len(ids) for ids in token_ids]
            flat = np.fromiter((i for ids in token_ids for i in ids), dtype=np.int64, count=sum(lengths))
            offsets = np.cumsum([0, *lengths[:-1]], dtype=np.int64)[: len(lengths)]
            return self._on_device(input_ids=flat, offsets=offsets)
        input_ids, mask = padded(token_ids, self.tokenizer.pad_id, self.tokenizer.padding_side, width=1)
        features = self._on_device(input_ids=input_ids, attention_mask=mask)
        prompt = self._prompt(side)
        if prompt and any(isinstance(module, Pooling) and not module.include_prompt for module in self.model):
            features["prompt_length"] = torch.tensor([self._first._get_prompt_length(prompt)])
        return features

    def embed(self, features: Features) -> Tensor:
        """Differentiable forward pass: ``features`` to vectors (n, dimension), of unit length when the similarity is
        cosine. Takes the training mode, gradients and autocast of the caller."""
        return self._embed(features, self.model)

    def save(self, folder: str | Path) -> None:
        """Write the sentence-transformers layout: plain ``SentenceTransformer(folder)`` gives the same vectors by
        ``encode_query`` and ``encode_document``, prompts and lengths included. Prompts of tasks are saved as
        ``TASK_query`` and ``TASK_document``, for its ``prompt_name``."""
        query, passage = self.query_max_length, self.max_length
        if self.is_static:
            self._first.tokenizer = self.tokenizer.cutting_at(passage)
        elif passage is not None:
            self._first.max_seq_length = passage
            self._first.query_length = query if query != passage else None
            self._first.document_length = None
        own = self.model.prompts
        self.model.prompts = {**own, **self.named_prompts()}
        try:
            with without_progress_bars():
                self.model.save(str(folder), safe_serialization=True)
        finally:
            self.model.prompts = own

    def named_prompts(self) -> dict[str, str]:
        named = {"query": self.query_prompt, "document": self.passage_prompt}
        for task, prompts in self.task_prompts.items():
            named |= {task + QUERY_KEY: prompts.query, task + PASSAGE_KEY: prompts.passage}
        return named

    def copy_weights(self) -> dict[str, Tensor]:
        """A copy of all weights by name."""
        return copied_weights(self.model)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put ``weights`` in. Raises ArtifactError when names or shapes are not this model's."""
        put_weights(self.model, self.name, weights)
        self._fingerprint = self._bf16_modules = None

    def _prompt(self, side: Side) -> str:
        return self.query_prompt if side == "query" else self.passage_prompt

    def _tokenize(self, texts: Sequence[str], side: Side) -> tuple[list[list[int]], int]:
        prompt, length = self._prompt(side), self.query_max_length if side == "query" else self.max_length
        return self.tokenizer.encode([prompt + text for text in texts], length)

    def _on_device(self, **arrays: NDArray[np.int64]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    def _bf16_is_stale(self) -> bool:
        return self._bf16_modules is None or self._bf16_modules[0] != self._weights.now()

    def _settle_precision(self, token_ids: TokenIds, side: Side) -> None:
        """Make the bf16 copy if the weights are new, and keep bf16 only if it agrees with fp32 on some texts."""
        if not (self.bf16 and token_ids and self._bf16_is_stale()):
            return
        self._bf16_modules = (self._weights.now(), bf16_modules(self.model))
        cosine = self._bf16_agreement(_spread(token_ids), side)
        if not cosine >= MIN_BF16_COSINE:  # NaN is a no
            logger.warning("%s: bf16 vectors differ from fp32 (cosine %.5f): encoding in fp32", self.name, cosine)
            self.bf16, self._bf16_modules = False, None

    def _bf16_agreement(self, token_ids: TokenIds, side: Side) -> float:
        """The lowest cosine between what bf16 and fp32 make of the same texts."""
        return lowest_cosine(self._forward(token_ids, side, True), self._forward(token_ids, side, False))

    def _forward(
        self, token_ids: TokenIds, side: Side, bf16: bool, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Vectors in the order of ``token_ids``."""
        vectors = np.empty((len(token_ids), self.dimension), dtype=np.float32)

        def embed(features: Features, modules: Iterable[nn.Module]) -> NDArray[Any]:
            return self._embed(features, modules).cpu().numpy()

        for rows, part in self._batched(embed, token_ids, side, bf16, progress):
            vectors[rows] = part
        return vectors

    def _batched(
        self,
        compute: Callable[[Features, Iterable[nn.Module]], T],
        token_ids: TokenIds,
        side: Side,
        bf16: bool,
        progress: Progress | None = None,
    ) -> Iterator[tuple[NDArray[np.int64], T]]:
        """Row numbers and what ``compute`` makes of them (features, the model's modules), without gradients, in
        batches of similar length, the longest first."""
        modules = self._bf16_modules[1] if bf16 and self._bf16_modules else self.model

        def run(rows: NDArray[np.int64]) -> T:
            with torch.inference_mode():
                return compute(self.features([token_ids[row] for row in rows], side), modules)

        was_training = self.model.training
        if was_training:  # either walks through all modules, which for one query is felt
            self.model.eval()
        try:
            for rows, part in self._batches.map(run, [len(ids) for ids in token_ids], self.device):
                yield rows, part
                if progress:
                    progress.update(len(rows))
        finally:
            if was_training:
                self.model.train()

    def _embed(self, features: Features, modules: Iterable[nn.Module]) -> Tensor:
        current: dict[str, Any] = dict(features)
        for module in modules:
            current = module(current)
        return self.settled(current["sentence_embedding"])

    def settled(self, vectors: Tensor) -> Tensor:
        """What pooling gave as the encoder gives it: float32, cut to truncate_dim, of unit length for cosine."""
        vectors = vectors.float()
        if self.model.truncate_dim is not None:
            vectors = vectors[:, : self.model.truncate_dim]
        return F.normalize(vectors, dim=-1) if self.similarity == "cosine" else vectors


def _spread(items: Sequence[Any]) -> list[Any]:
    """At most N_CHECKED items, evenly from the whole sequence."""
    return list(items[:: -(-len(items) // N_CHECKED)]) if items else []


def _similarity(model: SentenceTransformer, name: str) -> Similarity:
    if model.similarity_fn_name == "cosine":
        return "cosine"
    if model.similarity_fn_name == "dot":
        return "dot"
    raise ConfigError(f"{name}: similarity `{model.similarity_fn_name}` is not supported; known: cosine, dot")


def _settle_prompts(model: SentenceTransformer) -> tuple[str, str]:
    """The model's prompts, written back under the keys that sentence-transformers reads, with no default prompt."""
    prompts = model.prompts
    fallback = prompts.get(model.default_prompt_name, "") if model.default_prompt_name else ""
    query = prompts.get("query") or fallback
    passage = next((prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), fallback)
    model.prompts = {**prompts, "query": query, "document": passage}
    model.default_prompt_name = None
    return query, passage


def _task_prompts(prompts: Mapping[str, str]) -> dict[str, Prompts]:
    """The tasks among a model's prompts: those that have one for either side, as ``save`` names them."""
    tasks = [name.removesuffix(QUERY_KEY) for name in prompts if name.endswith(QUERY_KEY)]
    return {
        task: Prompts(prompts[task + QUERY_KEY], prompts[task + PASSAGE_KEY])
        for task in tasks
        if task + PASSAGE_KEY in prompts
    }
