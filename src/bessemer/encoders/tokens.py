"""Text to token ids with the model's own fast tokenizer, and batches of similar length. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from bessemer.errors import ConfigError


class Lengths(NamedTuple):
    """Most tokens, special ones included, of a query and of a passage; None = no limit."""

    query: int | None
    passage: int | None


class TextTokenizer:
    """A private copy of ``backend`` that neither pads nor cuts, so that lengths can be told.

    ``own_lengths`` are the model's; texts longer than a length lose tokens at ``cut_side``.
    """

    def __init__(
        self,
        backend: Tokenizer,
        own_lengths: Lengths,
        *,
        pad_id: int = 0,
        padding_side: str = "right",
        cut_side: str = "right",
        is_static: bool = False,
    ) -> None:
        """``is_static``: the model has no special tokens."""
        self.own_lengths, self.pad_id = own_lengths, pad_id
        self.padding_side, self.cut_side, self.is_static = padding_side, cut_side, is_static
        self._backend = Tokenizer.from_str(backend.to_str())
        self._backend.no_padding()
        self._backend.no_truncation()
        self.n_special = 0 if is_static else self._backend.num_special_tokens_to_add(is_pair=False)

    def to_json(self) -> str:
        return str(self._backend.to_str())

    def cutting_at(self, length: int | None) -> Tokenizer:
        """A tokenizer of its own that cuts at ``length``, as a static model carries it."""
        tokenizer = Tokenizer.from_str(self.to_json())
        if length is not None:
            tokenizer.enable_truncation(length, direction=self.cut_side)
        return tokenizer

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens per text, special ones left out."""
        return [len(encoding) for encoding in self._encode(texts)]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens per text, special ones included."""
        return [n + self.n_special for n in self.count(texts)]

    def encode(self, texts: Sequence[str], length: int | None) -> tuple[list[list[int]], int]:
        """Token ids per text, special ones included, cut to ``length``; and how many texts were cut."""
        room = None if length is None else length - self.n_special
        token_ids, n_cut = [], 0
        for encoding in self._encode(texts):
            if room is not None and len(encoding) > room:
                encoding.truncate(room, direction=self.cut_side)
                n_cut += 1
            token_ids.append(encoding.ids if self.is_static else self._backend.post_process(encoding).ids)
        return token_ids, n_cut

    def require_lengths(self, lengths: Iterable[int | None], n_positions: int | None, name: str) -> None:
        """Raises ConfigError for lengths without room for a word, and beyond the ``n_positions`` of the model
        ``name``; those that are None are not asked for."""
        for length in filter(None, lengths):
            if length <= self.n_special:
                raise ConfigError(f"max length {length}: no room beside {self.n_special} special tokens")
            if n_positions and length > n_positions:
                raise ConfigError(f"max length {length}: {name} takes at most {n_positions} tokens; lower it")

    def with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids without special ones, never cut, and the characters of ``text`` that each stands for."""
        encoding = self._backend.encode(_encodable(text), add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def marks(self) -> tuple[list[int], list[int]]:
        """Ids of the special tokens before a text, and of those after it."""
        encoding = self._backend.post_process(self._backend.encode("a", add_special_tokens=False))
        first = encoding.special_tokens_mask.index(0)
        return encoding.ids[:first], encoding.ids[first + encoding.special_tokens_mask.count(0) :]

    def strings(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token, without the blanks around it; the tokenizer's own name for one that is none."""
        texts = [self._backend.decode([token_id], skip_special_tokens=False).strip() for token_id in token_ids]
        names = [self._backend.id_to_token(token_id) or "" for token_id in token_ids]
        return [name if not text or "\ufffd" in text else text for text, name in zip(texts, names, strict=True)]

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        return list(self._backend.encode_batch_fast(list(map(_encodable, texts)), add_special_tokens=False))


def _encodable(text: str) -> str:
    """``text`` with lone surrogates, which no UTF-8 tokenizer takes, replaced by a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def length_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers, longest row first, in batches of at most ``max_tokens`` padded tokens (a longer row goes alone)."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def padded(
    token_ids: Sequence[Sequence[int]], pad_id: int, padding_side: str, width: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n, L) ids and attention mask, L the longest text's length or ``width`` where that is more."""
    lengths = [len(ids) for ids in token_ids]
    width = max([width, *lengths])
    input_ids = np.full((len(token_ids), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for row, ids in enumerate(token_ids):
        where = slice(width - len(ids), width) if padding_side == "left" else slice(0, len(ids))
        input_ids[row, where] = ids
        mask[row, where] = 1
    return input_ids, mask
