"""Late chunking: a passage's vector from its tokens as they stand in the document (Günther et al., arXiv 2409.04701).

A document goes through the model in windows as long as the model takes, each beginning half a window after the one
before; the vectors of a passage's tokens are then averaged, as the model's own pooling does with those of a whole text.
A passage is taken from the window in which it has most text on both sides; one that no window holds whole gets a window
of its own, around it. The marks that begin and end every text go with the document's first and last token, so that a
passage that is the whole document has the vector that it has by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from bessemer.encoders.dense import DenseEncoder, Features
from bessemer.encoders.encoder import Encoded, Side, Similarity
from bessemer.errors import ConfigError, DataError, Problem
from bessemer.types import Document, Passage

Span = tuple[int, int]
"""Half-open, of characters or of tokens."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Tokens of passage ``row``, which the window with these tokens of the document is read for."""

    row: int
    tokens: Span
    window: Span


class LateChunkedEncoder:
    """``encoder`` whose passages are read in their documents. Queries, and texts that stand in no document, as ever.

    ``n_over_windows`` counts the passages that were longer than a window, and averaged over several; nothing is cut.
    """

    def __init__(self, encoder: DenseEncoder, documents: Iterable[Document]) -> None:
        """Raises ConfigError for models whose vectors are no mean of token vectors, and for those without a limit of
        their length."""
        self._inner = encoder
        self._documents = {document.doc_id: document.text for document in documents}
        self._contexts = {doc_id: _hash(text) for doc_id, text in self._documents.items()}
        self._pooling = _mean_pooling(encoder)
        self._window = _window_length(encoder)
        self.n_over_windows = 0

    @property
    def similarity(self) -> Similarity:
        return self._inner.similarity

    @property
    def max_length(self) -> int | None:
        return self._inner.max_length

    @property
    def query_max_length(self) -> int | None:
        return self._inner.query_max_length

    @property
    def bf16(self) -> bool:
        return self._inner.bf16

    @property
    def n_truncated(self) -> Mapping[str, int]:
        return self._inner.n_truncated

    def fingerprint_of(self, side: Side) -> str:
        return self._inner.fingerprint_of(side)

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return self._inner.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        return self._inner.encode_passages(texts)

    def context_of(self, passage: Passage) -> str:
        """What its vector depends on beside its text: a hash of the whole document, and the place in it. Raises
        ConfigError where the passage is no span of its document."""
        text = self._documents.get(passage.doc_id)
        if text is None or text[passage.start : passage.end] != passage.text:
            raise ConfigError(
                f"late chunking: passage {passage.passage_id!r} is no span of a document that was read; build the "
                "index from --source, or without --late-chunking"
            )
        return f"{self._contexts[passage.doc_id]}:{passage.start}:{passage.end}"

    def encode_in_context(self, passages: Sequence[Passage]) -> Encoded:
        """Vectors (n, dimension) of passages whose headings and title are those in the document, no others. Raises
        DataError for passages without a token, all of them, and ArtifactError for vectors that are not finite."""
        by_document: dict[str, list[int]] = {}
        for row, passage in enumerate(passages):
            by_document.setdefault(passage.doc_id, []).append(row)
        windows: dict[tuple[str, Span], list[_Piece]] = {}
        token_ids: dict[str, list[int]] = {}
        empty: list[int] = []
        for doc_id, rows in by_document.items():
            ids, offsets = self._inner.tokenizer.with_offsets(self._documents[doc_id])
            token_ids[doc_id], places = ids, np.array(offsets, dtype=np.int64).reshape(-1, 2)
            for row in rows:
                span = _tokens_in(places, (passages[row].start, passages[row].end))
                if span[0] == span[1]:
                    empty.append(row)
                    continue
                self.n_over_windows += span[1] - span[0] > self._window
                for piece in pieces(row, span, len(ids), self._window):
                    windows.setdefault((doc_id, piece.window), []).append(piece)
        _refuse_empty([passages[row] for row in empty])
        return Encoded(dense=self._pooled(len(passages), windows, token_ids))

    def _pooled(
        self,
        n: int,
        windows: Mapping[tuple[str, Span], Sequence[_Piece]],
        token_ids: Mapping[str, Sequence[int]],
    ) -> NDArray[np.float32]:
        keys = list(windows)
        head, tail = self._inner.tokenizer.marks()
        prompt, _ = self._inner.tokenizer.with_offsets(self._inner.passage_prompt)
        counted = len(head) + len(prompt) if self._pooling.include_prompt or not prompt else 0
        inputs = [[*head, *prompt, *token_ids[doc_id][slice(*window)], *tail] for doc_id, window in keys]
        sums, counts = np.zeros((n, self._pooling.embedding_dimension), dtype=np.float32), np.zeros((n, 1), np.float32)
        for row, vectors in self._token_vectors(inputs):
            doc_id, (start, _) = keys[row]
            for piece in windows[keys[row]]:
                first, last = (place - start + len(head) + len(prompt) for place in piece.tokens)
                parts = [vectors[first:last]]
                if piece.tokens[0] == 0:
                    parts.append(vectors[:counted])
                if piece.tokens[1] == len(token_ids[doc_id]):
                    parts.append(vectors[len(vectors) - len(tail) :])
                sums[piece.row] += sum(part.sum(axis=0) for part in parts)
                counts[piece.row] += sum(map(len, parts))
        return self._finished((sums / counts).astype(np.float32))

    def _token_vectors(self, inputs: Sequence[Sequence[int]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(row, (tokens, width)): what pooling is given, without padding, batch by batch."""
        encoder = self._inner

        def run(features: Features, modules: Iterable[nn.Module]) -> NDArray[np.float32]:
            current: dict[str, Any] = dict(features)
            for module in modules:
                if module is self._pooling:
                    break
                current = module(current)
            vectors: NDArray[np.float32] = current["token_embeddings"].float().cpu().numpy()
            return vectors

        encoder._settle_precision(inputs, "passage")
        is_left = encoder.tokenizer.padding_side == "left"
        for rows, batch in encoder._batched(run, inputs, "passage", encoder.bf16):
            for row, vectors in zip(rows.tolist(), batch, strict=True):
                n = len(inputs[row])
                yield row, vectors[-n:] if is_left else vectors[:n]

    def _finished(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """After pooling, what the model itself does."""
        encoder = self._inner
        following = list(encoder.model)[list(encoder.model).index(self._pooling) + 1 :]
        with torch.inference_mode():
            current: dict[str, Any] = {"sentence_embedding": torch.from_numpy(pooled).to(encoder.device)}
            for module in following:
                current = module(current)
            vectors: NDArray[np.float32] = encoder.settled(current["sentence_embedding"]).cpu().numpy()
        encoder._refuse_damage(int((~np.isfinite(vectors)).any(axis=1).sum()), len(vectors))
        return vectors


def pieces(row: int, span: Span, n: int, length: int) -> Iterator[_Piece]:
    """``span`` of a document of ``n`` tokens with the window of ``length`` that shows it best; a span that is longer
    than a window in parts of half a window."""
    step = max(1, length // 2)
    starts = [*range(0, max(n - length, 0), step), max(n - length, 0)]
    start, end = span
    if end - start > length:
        cuts = [*range(start, end, step), end]
        for part in pairwise(cuts):
            yield from pieces(row, part, n, length)
        return
    around = [(s, min(s + length, n)) for s in starts if s <= start and end <= s + length]
    if not around:
        first = min(max(start - (length - (end - start)) // 2, 0), n - length)
        around = [(first, first + length)]

    def context(window: Span) -> int:
        """Tokens on the side where there are fewer; where the document itself ends, there are enough."""
        before = n if window[0] == 0 else start - window[0]
        after = n if window[1] == n else window[1] - end
        return min(before, after)

    yield _Piece(row, span, max(around, key=context))


def _tokens_in(offsets: NDArray[np.int64], characters: Span) -> Span:
    """The tokens that stand in the span at least in part. ``offsets``: (n, 2), rising."""
    first = int(np.searchsorted(offsets[:, 1], characters[0], side="right"))
    return first, max(first, int(np.searchsorted(offsets[:, 0], characters[1], side="left")))


def _refuse_empty(passages: Sequence[Passage]) -> None:
    if passages:
        message, fix = "has no token of the model to take a vector from", "take it out, or leave late chunking out"
        raise DataError([Problem(passage.doc_id, None, passage.passage_id, message, fix) for passage in passages])


def _mean_pooling(encoder: DenseEncoder) -> Pooling:
    found = [module for module in encoder.model if isinstance(module, Pooling)]
    modes = [str(module.pooling_mode) for module in found]
    if type(encoder) is not DenseEncoder or modes != ["mean"]:
        has = f"pools otherwise ({modes[0]})" if modes not in ([], ["mean"]) else "is none of these"
        raise ConfigError(
            f"{encoder.name}: late chunking is for dense models with mean pooling, and this one {has}; leave "
            "--late-chunking out"
        )
    return found[0]


def _window_length(encoder: DenseEncoder) -> int:
    """Tokens of a document in one window, beside marks and prompt."""
    if encoder.max_length is None:
        raise ConfigError(f"{encoder.name}: names no length for the windows of late chunking; give --max-length")
    length = encoder.max_length - len(encoder.tokenize([""], "passage")[0])
    if length < 1:
        raise ConfigError(f"max length {encoder.max_length}: no room for text beside the prompt; raise it")
    return length


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
