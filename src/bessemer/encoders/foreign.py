"""What sentence-transformers' sparse and multi-vector models have in common, seen as encoders of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from sentence_transformers.base.modules import Router, Transformer

from bessemer.encoders.encoder import Side, Similarity
from bessemer.encoders.fingerprint import model_fingerprint
from bessemer.encoders.load import model_location
from bessemer.encoders.runtime import ENCODED, Progress, resolve_device, without_progress_bars
from bessemer.encoders.tokens import TextTokenizer
from bessemer.errors import ConfigError

SLAB = 1_024
"""Texts whose vectors are held as tensors at once."""
LONGEST_BY_DEFAULT = 512
M = TypeVar("M")


class ForeignEncoder:
    """Holds the ``model``; prompts, lengths, masks and query expansion are the model's own.

    ``n_truncated`` counts, per side, the encoded texts that were longer than the model reads.
    """

    similarity: Similarity = "dot"

    def __init__(
        self, model: Any, name: str, *, max_length: int | None = None, query_max_length: int | None = None
    ) -> None:
        """``max_length``: tokens of a passage with prompt and special tokens (default: the model's own, at most 512);
        ``query_max_length``: of a query. Raises ConfigError where no transformer reads the passages."""
        self.model = model
        self.name = name
        self.n_truncated: dict[str, int] = {"query": 0, "passage": 0}
        self._tokenizers = {side: _tokenizer(model, side, name) for side in ("query", "passage")}
        _set_lengths(_first(model, "passage"), max_length, query_max_length)
        self._lengths = {"query": _length(model, "query"), "passage": _length(model, "passage")}

    @property
    def fingerprint(self) -> str:
        """sha256 over weights, tokenizers, modules and prompts; not over the path or the maximum lengths."""
        tokenizers = [tokenizer.to_json() for tokenizer in self._tokenizers.values() if tokenizer]
        settings = {"prompts": self.model.prompts, "similarity": self.model.similarity_fn_name}
        return model_fingerprint(self.model, "".join(tokenizers), settings)

    def fingerprint_of(self, side: Side) -> str:
        return self.fingerprint

    def _slabs(self, texts: Sequence[str], side: Side) -> Iterator[tuple[Callable[..., Any], list[str]]]:
        """The model's own method for ``side`` and some texts after the other, counted."""
        encode = self.model.encode_query if side == "query" else self.model.encode_document
        progress = Progress(len(texts), ENCODED[side])
        for start in range(0, len(texts), SLAB):
            some = list(texts[start : start + SLAB])
            self.n_truncated[side] += self._n_cut(some, side)
            yield encode, some
            progress.update(len(some))

    def _n_cut(self, texts: Sequence[str], side: Side) -> int:
        tokenizer, length = self._tokenizers[side], self._lengths[side]
        if tokenizer is None or length is None:
            return 0
        prompt = self.model.prompts.get("query" if side == "query" else "document") or ""
        return sum(n + tokenizer.n_special > length for n in tokenizer.count([prompt + text for text in texts]))


def load_foreign(kind: Callable[..., M], name: str, device: str | None, trust_remote_code: str | None) -> M:
    """A model of a class of sentence-transformers, weights in float32 from safetensors. Raises ConfigError where there
    is none or it is damaged."""
    options: dict[str, Any] = {"device": resolve_device(device), "trust_remote_code": trust_remote_code is not None}
    location = model_location(name)
    if trust_remote_code is not None:
        options["revision"] = trust_remote_code
    try:
        with without_progress_bars():
            return kind(location, model_kwargs={"dtype": torch.float32, "use_safetensors": True}, **options)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{name}: cannot be loaded: {cause}; give a folder or a hub name") from error


def _first(model: Any, side: Side) -> Any:
    first = model[0]
    if isinstance(first, Router):
        routes = first.sub_modules
        return routes["query" if side == "query" and "query" in routes else "document"][0]
    return first


def _tokenizer(model: Any, side: Side, name: str) -> TextTokenizer | None:
    """None for queries that are looked up word by word: they have no length."""
    first = _first(model, side)
    if isinstance(first, Transformer):
        return TextTokenizer(first, name)
    if side == "query":
        return None
    raise ConfigError(f"{name}: a {type(first).__name__} model cannot be used; one with a Transformer can")


def _set_lengths(first: Any, passage: int | None, query: int | None) -> None:
    limit = first.max_seq_length
    first.max_seq_length = passage or (LONGEST_BY_DEFAULT if limit is None else min(limit, LONGEST_BY_DEFAULT))
    if passage:
        first.document_length = None
    if query:
        first.query_length = query


def _length(model: Any, side: Side) -> int | None:
    first = _first(model, side)
    own = getattr(first, "query_length" if side == "query" else "document_length", None)
    return own or getattr(first, "max_seq_length", None)
