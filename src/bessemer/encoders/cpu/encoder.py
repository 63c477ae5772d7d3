"""Encoders over a CPU build: the vectors of the model that was exported, without torch."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.cpu.manifest import Backend, Build
from bessemer.encoders.cpu.networks import Network
from bessemer.encoders.encoder import Encoded, Side, Similarity
from bessemer.encoders.prompts import Prompts
from bessemer.encoders.runtime import ENCODED, Progress
from bessemer.encoders.tokens import TextTokenizer, length_batches, padded
from bessemer.errors import ArtifactError

BATCH_TOKENS: Mapping[Backend, int] = {"onnx": 768, "onnx-int8": 1, "openvino": 768}
"""Padded tokens of a batch. Numbers that int8 rounds to are set by the largest of the batch: each text goes alone, so
that its vector does not depend on its neighbours."""
SLAB = 16_384


class CpuEncoder:
    """A build of a dense model. ``n_truncated`` counts, per side, the encoded texts that were longer than the side's
    length. Texts become tokens as those of the source model do, and vectors are laid out alike.
    """

    device = "cpu"
    is_static = False
    bf16 = False

    def __init__(
        self,
        name: str,
        build: Build,
        tokenizer: TextTokenizer,
        network: Network,
        *,
        max_length: int | None = None,
        query_max_length: int | None = None,
    ) -> None:
        """``max_length`` and ``query_max_length`` in place of the build's own. Raises ConfigError for lengths that it
        cannot take."""
        self.name, self.build = name, build
        self.similarity: Similarity = build.similarity
        self.dimension = build.dimension
        self.query_prompt, self.passage_prompt = build.query_prompt, build.passage_prompt
        self.task_prompts: Mapping[str, Prompts] = build.task_prompts
        self.n_truncated: dict[str, int] = {"query": 0, "passage": 0}
        self._tokenizer, self._network = tokenizer, network
        self._stands_for = build.stands_for.get("")
        self.query_max_length, self.max_length = self._lengths(
            query_max_length or max_length or build.query_max_length, max_length or build.max_length
        )

    def _lengths(self, query: int, passage: int) -> tuple[int, int]:
        self._tokenizer.require_lengths((query, passage), self.build.n_positions, self.name)
        return query, passage

    @property
    def fingerprint(self) -> str:
        """sha256 over the files of the build, its engine, prompts and similarity: never that of the source model, whose
        vectors are other numbers, if only in the last digits."""
        files = {name: facts.sha256 for name, facts in self.build.files.items()}
        settings = [files, self.build.backend, self.query_prompt, self.passage_prompt, self.similarity]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def fingerprint_of(self, side: Side) -> str:
        return self.fingerprint

    def stands_for(self, fingerprint: str) -> bool:
        """Whether queries of this build may search passages of ``fingerprint``: its own, and the source model's where
        the gate has found them to agree (see docs/export.md)."""
        return fingerprint in (self.fingerprint, self._stands_for)

    @property
    def content_key(self) -> str:
        """The fingerprint with the lengths and the prompts of tasks."""
        key = f"{self.fingerprint}:{self.query_max_length}:{self.max_length}"
        return f"{key}:{sorted(self.task_prompts.items())}" if self.task_prompts else key

    def for_task(self, task: str, max_length: int | None = None, query_max_length: int | None = None) -> Self:
        """This encoder, its network shared, with the prompts of ``task`` where it has any (else its own), and with
        other lengths where they are given. Raises ConfigError for lengths that it cannot take."""
        other = copy.copy(self)
        other.n_truncated = {"query": 0, "passage": 0}
        if task in self.task_prompts:
            other.query_prompt, other.passage_prompt = self.task_prompts[task]
            other._stands_for = self.build.stands_for.get(task)
        other.query_max_length, other.max_length = self._lengths(
            query_max_length or max_length or self.query_max_length, max_length or self.max_length
        )
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
        for rows, _, _, outputs in self._batches(texts, side, progress):
            vectors[rows] = outputs["dense"]
        self._refuse_damage(int((~np.isfinite(vectors)).any(axis=1).sum()), len(texts))
        return vectors

    def settle_precision(self, texts: Sequence[str], side: Side) -> None:
        """Nothing to choose: the precision of a build is that of its file."""

    def precision_of(self, side: Side) -> str:
        return "fp32"

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens per text, without prompt and special tokens, never truncated."""
        return self._tokenizer.count(texts)

    def lengths(self, texts: Sequence[str], side: Side) -> list[int]:
        """Tokens per text as ``side`` has them, with prompt and special tokens, never truncated."""
        return self._tokenizer.lengths([self._prompt(side) + text for text in texts])

    def tokenize(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Token ids per text: prompt and special tokens in, cut to the side's length. Does not count truncations."""
        return self._tokenize(texts, side)[0]

    def _tokenize(self, texts: Sequence[str], side: Side) -> tuple[list[list[int]], int]:
        length = self.query_max_length if side == "query" else self.max_length
        return self._tokenizer.encode([self._prompt(side) + text for text in texts], length)

    def _prompt(self, side: Side) -> str:
        return self.query_prompt if side == "query" else self.passage_prompt

    def _batches(
        self, texts: Sequence[str], side: Side, progress: Progress | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Mapping[str, NDArray[np.float32]]]]:
        """Rows of ``texts``, their token ids and mask (n, L), and the outputs, in batches of similar length."""
        progress = progress or Progress(len(texts), ENCODED[side])
        for start in range(0, len(texts), SLAB):
            token_ids, n_cut = self._tokenize(texts[start : start + SLAB], side)
            self.n_truncated[side] += n_cut
            for rows in length_batches([len(ids) for ids in token_ids], BATCH_TOKENS[self.build.backend]):
                batch = [token_ids[row] for row in rows]
                input_ids, mask = padded(batch, self._tokenizer.pad_id, self._tokenizer.padding_side, width=1)
                yield start + rows, input_ids, mask, self._network(input_ids, mask)
                progress.update(len(rows))

    def _refuse_damage(self, n_bad: int, n_texts: int) -> None:
        if n_bad:
            raise ArtifactError(f"{self.name}: {n_bad} of {n_texts} vectors are not finite; export the model again")
