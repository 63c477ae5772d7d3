"""The three kinds of teachers behind one call: pairs of a query and a passage in, a score each out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.runtime import has_native_bf16, resolve_device
from bessemer.errors import ConfigError
from bessemer.llm.completions import CompletionsModel
from bessemer.llm.ledger import Ledger
from bessemer.llm.likelihood import Completion, Likelihood, LikelihoodModel
from bessemer.llm.local import load_causal_lm
from bessemer.llm.templates import DEFAULT_TASK, TEMPLATES, Template
from bessemer.recipes.data import open_with_own_settings
from bessemer.score_cache import score_key
from bessemer.search.rerank import CrossEncoderReranker

SLAB = 8_192
"""Pairs that a language model is handed at once: it holds the token ids of all of them."""
CHUNK = 256
"""Pairs of similar length that a cross-encoder is handed at once; what they scored is kept before the next."""


class Pair(NamedTuple):
    """``query`` stands with its history where the task has one."""

    query: str
    passage: str
    answers: tuple[str, ...] = ()
    task: str = ""


class Score(NamedTuple):
    """``value`` is NaN where ``fault`` says why there is none."""

    value: float
    is_cut: bool = False
    fault: str = ""


class Teacher(Protocol):
    @property
    def fingerprint(self) -> str:
        """Of the teacher: what its scores depend on besides the pairs."""

    def key(self, pair: Pair) -> str:
        """The same only where the score is: a hash of the teacher and of what it reads of the pair."""

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Score]]:
        """(place among ``pairs``, score), in whatever order they are computed."""


def open_teacher(config: Config, ledger: Ledger | None = None) -> Teacher:
    """The teacher of ``config.teacher``; an endpoint spends from ``ledger``, where the run has one. Raises ConfigError
    where none is named, or one that is not to be had."""
    if is_endpoint(config):
        return LikelihoodTeacher(_endpoint(config, ledger))
    return KINDS[config.teacher.kind](config)


def is_endpoint(config: Config) -> bool:
    """The teacher is the language model of ``config.llm``, not one of its own."""
    return config.teacher.kind == "llm" and config.teacher.model is None


def template_for(task: str) -> Template:
    """That of the task; of a user's own task that of qa."""
    return TEMPLATES.get(task, TEMPLATES[DEFAULT_TASK])


def cost_of(teacher: Teacher) -> dict[str, Any]:
    """``{"llm": what the endpoint was paid}``, where there is one."""
    model = teacher.model if isinstance(teacher, LikelihoodTeacher) else None
    return {"llm": model.ledger.account()} if isinstance(model, CompletionsModel) else {}


class LikelihoodTeacher:
    """How likely a language model finds the answer after the passage and the query; of several, the likeliest."""

    def __init__(self, model: LikelihoodModel) -> None:
        self.model = model

    @property
    def fingerprint(self) -> str:
        return self.model.identity

    def key(self, pair: Pair) -> str:
        return score_key(
            self.model.identity, template_for(pair.task).pattern, pair.query, sorted(pair.answers), pair.passage
        )

    def completions(self, pair: Pair) -> list[Completion]:
        """What the model is asked of a pair: one for each of its answers."""
        template = template_for(pair.task)
        return [template.fill(pair.passage, pair.query, answer) for answer in pair.answers]

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Score]]:
        """Pairs of one passage together: the model runs it once for all of them."""
        order = sorted(range(len(pairs)), key=lambda place: pairs[place].passage)
        for start in range(0, len(order), SLAB):
            yield from self._score_slab(pairs, order[start : start + SLAB])

    def _score_slab(self, pairs: Sequence[Pair], places: Sequence[int]) -> Iterator[tuple[int, Score]]:
        asked = [(place, answer) for place in places for answer in pairs[place].answers]
        completions = [one for place in places for one in self.completions(pairs[place])]
        found: dict[int, list[Likelihood]] = defaultdict(list)
        for number, likelihood in self.model.log_likelihoods(completions):
            place = asked[number][0]
            found[place].append(likelihood)
            if len(found[place]) == len(pairs[place].answers):
                yield place, _likeliest(found.pop(place))


def _likeliest(likelihoods: Sequence[Likelihood]) -> Score:
    """One answer that has no likelihood is a fault of the pair: a maximum over the others would hide it."""
    fault = next((likelihood.fault for likelihood in likelihoods if likelihood.fault), "")
    best = max(likelihoods, key=lambda likelihood: likelihood.mean)
    return Score(math.nan, fault=fault) if fault else Score(best.mean, best.is_cut)


class CrossEncoderTeacher:
    """The logit of a cross-encoder."""

    def __init__(self, reranker: CrossEncoderReranker) -> None:
        self._reranker = reranker

    @property
    def fingerprint(self) -> str:
        return self._reranker.fingerprint

    def key(self, pair: Pair) -> str:
        return score_key(self._reranker.fingerprint, "logit", pair.query, pair.passage)

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Score]]:
        """The longest first, so that too little memory shows at once."""
        order = sorted(range(len(pairs)), key=lambda place: -len(pairs[place].query + pairs[place].passage))
        for start in range(0, len(order), CHUNK):
            places = order[start : start + CHUNK]
            texts = [(pairs[place].query, pairs[place].passage) for place in places]
            logits, are_cut = self._reranker.logits(texts), self._reranker.are_cut(texts)
            for place, logit, is_cut in zip(places, logits, are_cut, strict=True):
                yield place, Score(float(logit), is_cut)


class EmbedderTeacher:
    """The similarity of another embedding model, under its own prompts: those of the task where it was trained with
    any. Its vectors are kept in ``folder``."""

    def __init__(self, encoder: DenseEncoder, folder: Path) -> None:
        self._encoder = encoder
        self._folder = folder
        self._identity = encoder.content_key

    @property
    def fingerprint(self) -> str:
        return self._identity

    def key(self, pair: Pair) -> str:
        task = pair.task if pair.task in self._encoder.task_prompts else ""
        return score_key(self._identity, task, pair.query, pair.passage)

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Score]]:
        by_task: dict[str, list[int]] = defaultdict(list)
        for place, pair in enumerate(pairs):
            by_task[pair.task].append(place)
        for task, places in by_task.items():
            yield from self._score_task(self._encoder.for_task(task), pairs, places)

    def _score_task(
        self, encoder: DenseEncoder, pairs: Sequence[Pair], places: Sequence[int]
    ) -> Iterator[tuple[int, Score]]:
        queries = {text: row for row, text in enumerate(dict.fromkeys(pairs[place].query for place in places))}
        passages = {text: row for row, text in enumerate(dict.fromkeys(pairs[place].passage for place in places))}
        cached = CachedEncoder(encoder, self._folder)
        left, right = cached.encode_queries(list(queries)).dense, cached.encode_passages(list(passages)).dense
        assert left is not None
        assert right is not None
        cut = {text for text in passages if encoder.tokenize_counted([text], "passage")[1]}
        for place in places:
            query, passage = left[queries[pairs[place].query]], right[passages[pairs[place].passage]]
            yield place, Score(float(np.dot(query.astype(np.float64), passage)), pairs[place].passage in cut)


def _endpoint(config: Config, ledger: Ledger | None) -> CompletionsModel:
    if not config.llm.url:
        either = "give --teacher-model NAME_OR_FOLDER, or --llm URL of an endpoint and --llm-model"
        raise ConfigError(f"--teacher llm: {either}")
    return CompletionsModel(config.llm, ledger)


def _open_causal_lm(config: Config) -> LikelihoodTeacher:
    device = resolve_device(config.device)
    bf16 = device.startswith("cuda") and has_native_bf16(device)  # a CPU scores exactly, in float32
    return LikelihoodTeacher(load_causal_lm(_named(config), device=device, bf16=bf16))


def _open_cross_encoder(config: Config) -> CrossEncoderTeacher:
    return CrossEncoderTeacher(CrossEncoderReranker(_named(config), config.device))


def _open_embedder(config: Config) -> EmbedderTeacher:
    return EmbedderTeacher(open_with_own_settings(config, _named(config)), config.workspace_folder / "embeddings")


def _named(config: Config) -> str:
    if config.teacher.model is None:
        raise ConfigError(f"--teacher {config.teacher.kind}: give --teacher-model NAME_OR_FOLDER")
    return config.teacher.model


KINDS: Mapping[str, Callable[[Config], Teacher]] = {
    "llm": _open_causal_lm,
    "cross-encoder": _open_cross_encoder,
    "embedder": _open_embedder,
}
