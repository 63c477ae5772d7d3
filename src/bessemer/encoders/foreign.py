"""What sentence-transformers' sparse and multi-vector models have in common, seen as encoders of ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from sentence_transformers.base.modules import Router, Transformer
from torch import Tensor

from bessemer.encoders.encoder import Side, Similarity
from bessemer.encoders.fingerprint import model_fingerprint
from bessemer.encoders.head_base import n_positions
from bessemer.encoders.load import LOADING_FAULTS, UNTRAINED, cause_of, model_location
from bessemer.encoders.model_tokenizer import model_tokenizer
from bessemer.encoders.runtime import (
    ENCODED,
    Progress,
    has_native_bf16,
    is_out_of_memory,
    resolve_device,
    without_progress_bars,
)
from bessemer.encoders.tokens import TextTokenizer, padded
from bessemer.encoders.untrained import refuse_untrained
from bessemer.encoders.weights import copied_weights, put_weights
from bessemer.errors import BessemerError, ConfigError
from bessemer.hub import is_out_of_reach

logger = logging.getLogger(__name__)

SLAB = 1_024
"""Texts whose vectors are held as tensors at once."""
LONGEST_BY_DEFAULT = 512
M = TypeVar("M", bound=torch.nn.Module)
Features = Mapping[str, Tensor]


class ForeignEncoder:
    """Holds the ``model``; prompts, lengths, masks and query expansion are the model's own.

    ``n_truncated`` counts, per side, the encoded texts that were longer than the model reads; ``batch_size`` texts go
    through the model at once.
    """

    batch_size = 32
    similarity: Similarity = "dot"
    is_static = False

    def __init__(
        self, model: Any, name: str, *, max_length: int | None = None, query_max_length: int | None = None
    ) -> None:
        """``max_length``: tokens of a passage with prompt and special tokens (default: the model's own, at most 512);
        ``query_max_length``: of a query. Raises ConfigError where no transformer reads the passages, and for lengths
        that it cannot take."""
        self.model = model
        self.name = name
        self.n_truncated: dict[str, int] = {"query": 0, "passage": 0}
        self._tokenizers = {side: _tokenizer(model, side, name) for side in ("query", "passage")}
        passage = self._tokenizers["passage"]
        assert passage is not None, "`_tokenizer` refuses models without"
        passage.require_lengths((max_length, query_max_length), n_positions(first_of(model, "passage")), name)
        _set_lengths(first_of(model, "passage"), max_length, query_max_length)
        self._lengths = {"query": _length(model, "query"), "passage": _length(model, "passage")}
        self.query_max_length, self.max_length = self._lengths["query"], self._lengths["passage"]
        self.device = str(model.device)
        self.bf16 = has_native_bf16(self.device)  # of training; texts are encoded in float32

    @property
    def dimension(self) -> int:
        """Of a vector; of sparse ones the size of the vocabulary."""
        return int(self.model.get_embedding_dimension())

    @property
    def fingerprint(self) -> str:
        """sha256 over weights, tokenizers, modules, prompts and query expansion; not over the path or the maximum
        lengths."""
        tokenizers = [tokenizer.to_json() for tokenizer in self._tokenizers.values() if tokenizer]
        settings = {
            "prompts": self.model.prompts,
            "similarity": self.model.similarity_fn_name,
            "query_expansion": getattr(first_of(self.model, "query"), "query_expansion", None),
        }
        return model_fingerprint(self.model, "".join(tokenizers), settings)

    def fingerprint_of(self, side: Side) -> str:
        return self.fingerprint

    @property
    def content_key(self) -> str:
        """The fingerprint with the lengths."""
        return f"{self.fingerprint}:{self.query_max_length}:{self.max_length}"

    def for_task(self, task: str, max_length: int | None = None, query_max_length: int | None = None) -> Self:
        """This encoder: whatever the task, prompts and lengths are the model's own. Raises ConfigError for others."""
        passage = max_length or self.max_length
        if (query_max_length or max_length or self.query_max_length, passage) != (
            self.query_max_length,
            self.max_length,
        ):
            raise ConfigError(f"{self.name}: tasks share the lengths of the model; give --max-length for all of them")
        return self

    def require_trainable(self) -> None:
        """Raises ConfigError for models with an encoder for each side, and for those that read texts as messages."""
        first = self.model[0]
        if not isinstance(first, Transformer):
            raise ConfigError(
                f"{self.name}: has an encoder for each side, which cannot be trained here; one that has "
                "the same transformer for both can"
            )
        if "message" in first.modality_config:
            raise ConfigError(f"{self.name}: reads texts through a chat template, which cannot be trained here")

    def tokenize_counted(self, texts: Sequence[str], side: Side) -> tuple[list[list[int]], int]:
        """Token ids per text, with prompt and special tokens, cut to the side's length; and how many texts were
        cut."""
        tokenizer = self._tokenizers[side]
        assert tokenizer is not None, "`require_trainable` refuses models without"
        return tokenizer.encode([self._prompt(side) + text for text in texts], self._lengths[side])

    def features(self, token_ids: Sequence[Sequence[int]], side: Side) -> dict[str, Tensor]:
        """(n, L) ``input_ids`` and ``attention_mask`` on the device and (n,) ``is_query``; with query expansion also
        (n, L) ``query_expansion_positions``, as the model's own preprocessing makes them."""
        tokenizer = self._tokenizers[side]
        assert tokenizer is not None
        expansion = self.model[0].query_expansion if side == "query" else None
        width = expansion["length"] if expansion else 0
        ids, mask = map(torch.from_numpy, padded(token_ids, tokenizer.pad_id, tokenizer.padding_side, width))
        found = {"input_ids": ids, "attention_mask": mask, "is_query": torch.full((len(ids),), side == "query")}
        if expansion:
            added = (mask == 0) & (torch.arange(ids.shape[1]) < width)
            found["query_expansion_positions"] = added
            found["input_ids"] = ids.masked_fill(added, _expansion_id(self.model[0].tokenizer, expansion["token"]))
            found["attention_mask"] = mask.masked_fill(added, int(expansion["attend"]))
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    def save(self, folder: str | Path) -> None:
        """As sentence-transformers does: its class opens the folder with equal outputs."""
        with without_progress_bars():
            self.model.save(str(folder), safe_serialization=True)

    def copy_weights(self) -> dict[str, Tensor]:
        return copied_weights(self.model)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Raises ArtifactError when names or shapes are not this model's."""
        put_weights(self.model, self.name, weights)

    def _forward(self, features: Features, **given: Any) -> dict[str, Any]:
        """All modules after one another."""
        inputs = {name: tensor for name, tensor in features.items() if name != "is_query"}
        found: dict[str, Any] = self.model(inputs, **given)
        return found

    def _prompt(self, side: Side) -> str:
        return self.model.prompts.get("query" if side == "query" else "document") or ""

    def _outputs(self, texts: Sequence[str], side: Side, **how: Any) -> Iterator[Any]:
        """What the model's own method for ``side``, called with ``how``, makes of some texts after the other, counted.
        Raises BessemerError where a single text does not fit into memory."""
        encode = self.model.encode_query if side == "query" else self.model.encode_document
        progress = Progress(len(texts), ENCODED[side])
        with _as_it_is_served(self.model):
            for start in range(0, len(texts), SLAB):
                some = list(texts[start : start + SLAB])
                self.n_truncated[side] += self._n_cut(some, side)
                yield self._within_memory(encode, some, how)
                progress.update(len(some))

    def _within_memory(self, encode: Callable[..., Any], texts: list[str], how: Mapping[str, Any]) -> Any:
        """In batches of ``batch_size`` texts, half as many from where memory is too little."""
        while True:
            try:
                return encode(texts, batch_size=self.batch_size, show_progress_bar=False, **how)
            except RuntimeError as error:
                self._halve(error)

    def _halve(self, error: RuntimeError) -> None:
        if not is_out_of_memory(error):
            raise error
        if self.batch_size == 1:
            message = f"{self.name}: out of memory even with one text at a time"
            raise BessemerError(f"{message}; give a smaller --max-length, or more memory") from error
        self.batch_size //= 2
        logger.warning("%s: out of memory: encoding %d texts at a time from here on", self.name, self.batch_size)

    def lengths(self, texts: Sequence[str], side: Side) -> list[int]:
        """Tokens per text as ``side`` has them, with prompt and special tokens, never truncated; words, where queries
        are looked up word by word."""
        tokenizer, prompt = self._tokenizers[side], self._prompt(side)
        if tokenizer is None:
            return [len(text.split()) for text in texts]
        return tokenizer.lengths([prompt + text for text in texts])

    def _n_cut(self, texts: Sequence[str], side: Side) -> int:
        length = self._lengths[side]
        if self._tokenizers[side] is None or length is None:
            return 0
        return sum(n > length for n in self.lengths(texts, side))


@contextmanager
def _as_it_is_served(model: Any) -> Iterator[None]:
    """Training may have put a forward pass in mixed precision in place of the model's own; within, it has its own, in
    whose precision the saved model will encode, too. The training mode comes back afterwards."""
    mixed, was_training = vars(model).pop("forward", None), model.training
    try:
        yield
    finally:
        model.train(was_training)
        if mixed is not None:
            model.forward = mixed


def load_foreign(kind: Callable[..., M], name: str, device: str | None, trust_remote_code: str | None) -> M:
    """A model of a class of sentence-transformers, weights in float32 from safetensors. Raises ConfigError where there
    is none, it is damaged or it lacks weights."""
    location = model_location(name)
    options: dict[str, Any] = {
        "device": resolve_device(device),
        "trust_remote_code": trust_remote_code is not None,
        "local_files_only": is_out_of_reach(location, trust_remote_code),
    }
    if trust_remote_code is not None:
        options["revision"] = trust_remote_code
    try:
        with without_progress_bars():
            model = kind(location, model_kwargs={"dtype": torch.float32, "use_safetensors": True}, **options)
    except LOADING_FAULTS as error:
        raise ConfigError(f"{name}: cannot be loaded: {cause_of(error)}; give a folder or a hub name") from error
    if trust_remote_code is None:
        refuse_untrained(model, name, UNTRAINED)
    return model


def first_of(model: Any, side: Side) -> Any:
    """What reads the texts of one side."""
    first = model[0]
    if isinstance(first, Router):
        routes = first.sub_modules
        return routes["query" if side == "query" and "query" in routes else "document"][0]
    return first


def _tokenizer(model: Any, side: Side, name: str) -> TextTokenizer | None:
    """None for queries that are looked up word by word: they have no length."""
    first = first_of(model, side)
    if isinstance(first, Transformer):
        return model_tokenizer(first, name)
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


def _expansion_id(tokenizer: Any, token: str | None) -> int:
    """What a query is filled up with: the token that the model names, else its mask token, else eos."""
    if token is not None:
        return int(tokenizer.convert_tokens_to_ids(token))
    return int(tokenizer.eos_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id)


def _length(model: Any, side: Side) -> int | None:
    first = first_of(model, side)
    expansion = getattr(first, "query_expansion", None) if side == "query" else None
    if expansion and expansion["strategy"] == "fixed":  # both floor and ceiling
        return int(expansion["length"])
    own = getattr(first, "query_length" if side == "query" else "document_length", None)
    return own or getattr(first, "max_seq_length", None)
