"""A causal language model on this machine, through transformers: exact likelihoods of answers, many at a time.

Texts of one passage share what their token ids begin with: it is run once, and its keys and values serve them all.
Everything else goes in batches of similar length. Rows are padded on the right, where a causal model does not look:
they need no mask, with which attention would be slower, and no correction of positions. The head, dear for a large
vocabulary, reads nothing but what precedes an answer's tokens.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import DynamicLayer
from transformers.utils import logging as transformers_logging

from bessemer.errors import ArtifactError, ConfigError
from bessemer.hub import is_out_of_reach
from bessemer.llm.batches import Batch, Tokens, plan
from bessemer.llm.likelihood import EMPTY_ANSWER, Completion, Likelihood, no_likelihood

CPU_BATCH_TOKENS = 512
GPU_BATCH_TOKENS = 8_192
CPU_LEAST_SHARING = 2
GPU_LEAST_SHARING = 4
"""So many texts of one passage make its prefix worth a pass of its own: a GPU would rather have full batches."""
_NO_LIMIT = 10**9  # transformers writes 1e30 where a tokenizer names no limit
_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "architectures", "use_cache")


def load_causal_lm(name: str, *, device: str = "cpu", bf16: bool = False) -> CausalLM:
    """Load a folder or a hub name, safetensors only, none of its code. ``bf16``: else float32.

    Raises ConfigError where there is no such model, it is no causal language model, or it has no fast tokenizer.
    """
    transformers_logging.disable_progress_bar()
    try:
        offline = is_out_of_reach(name)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=offline)
        model, told = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=torch.bfloat16 if bf16 else torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=offline,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{name}: no language model to be had: {cause}; give a folder or a hub name") from error
    finally:
        transformers_logging.enable_progress_bar()
    if told["missing_keys"]:
        missing = sorted(told["missing_keys"])[0]
        raise ConfigError(f"{name}: is no language model ({missing} is not among its weights); give a causal one")
    return CausalLM(model.to(device), tokenizer, name)


class Read(NamedTuple):
    """A completion as the model reads it."""

    tokens: Tokens
    is_cut: bool


class CausalLM:
    """``model`` is a transformers causal language model with its ``tokenizer`` (a fast one: it tells offsets).

    Raises ConfigError without a fast tokenizer, and for a model that sees what comes after; ArtifactError for one whose
    weights are damaged.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ConfigError(f"{name}: has no fast tokenizer (tokenizer.json); convert it with transformers first")
        self.name = name
        self._model = model.eval()
        self._tokenizer = Tokenizer.from_str(backend.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_length = _max_length(model, tokenizer)
        self._device = str(model.device)
        is_cpu = self._device == "cpu"
        self._batch_tokens = CPU_BATCH_TOKENS if is_cpu else GPU_BATCH_TOKENS
        self._least_sharing = CPU_LEAST_SHARING if is_cpu else GPU_LEAST_SHARING
        self.identity = _fingerprint(model, self._tokenizer.to_str(), self.max_length)
        self._can_share = self._goes_on_from_prefixes()
        if not self._is_causal():
            raise ConfigError(f"{name}: reads what comes after, too: it is no causal language model; give one")

    def log_likelihoods(self, completions: Sequence[Completion]) -> Iterator[tuple[int, Likelihood]]:
        """(place among ``completions``, likelihood): faults first, then as the batches are done.

        A passage is cut where the text is longer than ``max_length``, a question or an answer never: where they alone
        are too long, that is a fault. Raises ArtifactError when a likelihood is not finite.
        """
        read: dict[int, Read] = {}
        for place, completion in enumerate(completions):
            found = self._read(completion)
            if isinstance(found, Read):
                read[place] = found
            else:
                yield place, no_likelihood(found)
        sharing = self._least_sharing if self._can_share else len(completions) + 1
        passages = {place: (completions[place].head, completions[place].passage) for place in read}
        tokens = {place: found.tokens for place, found in read.items()}
        for prefix, batches in plan(tokens, passages, self._batch_tokens, sharing):
            cache = self._run_prefix(prefix) if prefix else None
            for batch in batches:
                for place, mean in zip(batch.places, self._means(batch, cache), strict=True):
                    n_tokens = len(read[place].tokens.ids) - read[place].tokens.answer_from
                    yield place, Likelihood(mean, n_tokens, read[place].is_cut)

    def _read(self, completion: Completion) -> Read | str:
        """Token ids with the place of the answer, the passage cut where it must be; or what is wrong."""
        if not completion.answer.strip():
            return EMPTY_ANSWER
        encoding, n = self._encode(completion)
        is_cut = False
        while self.max_length is not None and n > self.max_length:
            passage = _shortened(completion, encoding, n - self.max_length)
            if passage is None:
                return f"question and answer alone have more than the {self.max_length} tokens that the model reads"
            completion, is_cut = replace(completion, passage=passage), True
            encoding, n = self._encode(completion)
        start, offsets = completion.answer_start, encoding.offsets  # every look at an encoding's lists copies them
        answer_from = next((i for i in range(n) if offsets[i][1] > start), n)
        if answer_from == n:
            return "the tokenizer finds nothing in the answer"
        if answer_from == 0:
            return "no token precedes the answer"
        return Read(Tokens(tuple(encoding.ids[:n]), answer_from), is_cut)

    def _encode(self, completion: Completion) -> tuple[Encoding, int]:
        """The tokens, and how many of them the text has: what a tokenizer puts behind it is left out."""
        encoding = self._tokenizer.encode(completion.text)
        is_special = encoding.special_tokens_mask
        n = len(is_special)
        while n and is_special[n - 1]:
            n -= 1
        return encoding, n

    @torch.inference_mode()
    def _run_prefix(self, prefix: Sequence[int]) -> Any:
        """The keys and values of the tokens."""
        ids = torch.tensor([prefix], device=self._device)
        return self._model.base_model(input_ids=ids, use_cache=True).past_key_values

    @torch.inference_mode()
    def _means(self, batch: Batch, cache: Any) -> list[float]:
        """Mean log-probability of each row's answer; ``cache`` holds what all rows begin with."""
        lengths = [len(tokens.ids) for tokens in batch.tokens]
        ids = torch.zeros((len(lengths), max(lengths)), dtype=torch.long)
        for row, tokens in enumerate(batch.tokens):
            ids[row, : lengths[row]] = torch.tensor(tokens.ids)
        counts = [len(tokens.ids) - tokens.answer_from for tokens in batch.tokens]
        rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        columns = torch.cat([torch.arange(t.answer_from, len(t.ids)) for t in batch.tokens])
        given = {} if cache is None else {"past_key_values": _for_rows(cache, len(counts))}
        with _head_reads(self._model, rows.to(self._device), (columns - 1).to(self._device)):
            outputs = self._model(
                input_ids=ids.to(self._device),
                use_cache=cache is not None,
                **given,
            )
        logits: Tensor = outputs.logits[0].float()
        targets = ids[rows, columns].to(self._device)
        found = logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=1)
        means = [part.mean().item() for part in torch.split(found.double().cpu(), counts)]
        if not all(mean > -torch.inf for mean in means):  # NaN is a no
            raise ArtifactError(f"{self.name}: likelihoods are not finite; the weights are damaged")
        return means

    @torch.inference_mode()
    def _is_causal(self) -> bool:
        """Whether another last token leaves the logits before it as they are."""
        ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=self._device) % self._model.config.vocab_size
        logits = self._model(input_ids=ids).logits
        tolerance = 32 * torch.finfo(logits.dtype).eps * float(logits.abs().max())
        return float((logits[0, :2] - logits[1, :2]).abs().max()) <= tolerance

    def _goes_on_from_prefixes(self) -> bool:
        """Whether two texts come out after a shared prefix as they do alone: no architecture is believed, all are
        tried. (Recurrent states cannot be taken up, and layers may share keys and values in ways of their own.)"""
        n_prefix, n = 12, 20
        ids = tuple(i % self._model.config.vocab_size for i in range(n))
        texts = (Tokens(ids, 15), Tokens((*ids[:-1], 0), 15))
        rest = tuple(Tokens(text.ids[n_prefix:], text.answer_from - n_prefix) for text in texts)
        alone = self._means(Batch((0, 1), texts, 0), None)
        try:
            shared = self._means(Batch((0, 1), rest, n_prefix), self._run_prefix(texts[0].ids[:n_prefix]))
        except (AttributeError, TypeError, ValueError, RuntimeError):  # no keys and values, or none of this kind
            return False
        tolerance = 100 * torch.finfo(self._model.dtype).eps * max(1.0, *(-mean for mean in alone))
        return max(abs(a - b) for a, b in zip(alone, shared, strict=True)) <= tolerance


@contextmanager
def _head_reads(model: Any, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Meanwhile the output layer sees the hidden states (n, d) at these places alone, as one row of n: the logits are
    (1, n, vocabulary), and whatever a model does to them afterwards (caps, scales) is done to these."""
    head: nn.Module = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][rows, columns][None],))
    try:
        yield
    finally:
        handle.remove()


class _ReadByRows(DynamicLayer):  # type: ignore[misc]
    """The keys and values of one row, from which many rows go on; they are not changed.

    Each layer joins them with its rows' own in the same two buffers: on a CPU fresh memory for every layer takes as
    long as the layer's arithmetic.
    """

    def __init__(self, layer: DynamicLayer, buffers: dict[tuple[int, ...], Tensor]) -> None:
        super().__init__()
        self.__dict__.update(vars(layer))
        self._buffers = buffers

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self._joined(0, self.keys, key_states), self._joined(1, self.values, value_states)

    def _joined(self, which: int, before: Tensor, after: Tensor) -> Tensor:
        n, n_heads, length, width = after.shape
        shape = (n, n_heads, before.shape[2] + length, width)
        if (which, *shape) not in self._buffers:
            self._buffers[which, *shape] = after.new_empty(shape)
        buffer = self._buffers[which, *shape]
        buffer[:, :, : before.shape[2]] = before
        buffer[:, :, before.shape[2] :] = after
        return buffer


def _for_rows(cache: Any, n: int) -> Any:
    """The keys and values of one row, for ``n`` rows to go on from; ``cache`` stays as it is."""
    rows = copy.copy(cache)
    buffers: dict[tuple[int, ...], Tensor] = {}
    rows.layers = [_ReadByRows(x, buffers) if type(x) is DynamicLayer else copy.copy(x) for x in cache.layers]
    for layer in rows.layers:
        if not isinstance(layer, _ReadByRows):
            layer.batch_repeat_interleave(n)
    return rows


def _shortened(completion: Completion, encoding: Encoding, n_excess: int) -> str | None:
    """The passage without its last ``n_excess`` tokens; None when it has no more."""
    if not completion.passage:
        return None
    start = len(completion.head)
    end = start + len(completion.passage)
    begins = [begin for begin, stop in encoding.offsets if begin < end and stop > start]
    n_kept = max(0, begins[-n_excess] - start) if n_excess <= len(begins) else 0
    return completion.passage[: min(n_kept, len(completion.passage) - 1)]


def _max_length(model: Any, tokenizer: Any) -> int | None:
    """Tokens that the model reads: the least that its configuration and its tokenizer name."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit and 0 < limit < _NO_LIMIT]
    return min(limits, default=None)


def _fingerprint(model: Any, tokenizer_json: str, max_length: int | None) -> str:
    """sha256 over weights, their type, architecture, tokenizer and length: all that shapes a likelihood."""
    config = {key: value for key, value in model.config.to_dict().items() if key not in _VOLATILE}
    described = json.dumps([config, max_length, tokenizer_json], sort_keys=True, default=str)
    digest = hashlib.sha256(described.encode())
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {data.dtype} {tuple(data.shape)}".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
