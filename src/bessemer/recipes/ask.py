"""A question to one index or several: retrieve, answer with citations, remember."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bessemer.answers.answer import Answer, answer_request, read_answer
from bessemer.answers.answer_cache import AnswerCache, Evidence, Vector
from bessemer.answers.same_question import ask_the_same
from bessemer.config import Config
from bessemer.content_hash import content_hash
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder
from bessemer.errors import ConfigError, DataError, ServiceError
from bessemer.llm.client import Client
from bessemer.questions.own import own_questions
from bessemer.recipes.generated import open_llm
from bessemer.recipes.plan import calls_in_all, plan_of, step_of
from bessemer.search.index import Index, open_index
from bessemer.search.retriever import unit_length
from bessemer.search.rewrite import Example, Rewritten, rewrite, rewriting_requests
from bessemer.search.rewriting_examples import examples_near
from bessemer.search.routing import route, routing_request, search_all
from bessemer.search.stores.store import Filter

log = logging.getLogger("bessemer")

Search = partial[list[dict[str, Any]]]
"""`search_all`, for one depth and one filter."""

REWRITE_SECONDS = 4.0
"""What people will wait for a better query."""


@dataclass(frozen=True)
class Rewriting:
    """How a question is rewritten, and by which language model. ``feedback``: a file of judged questions, whose vectors
    are kept in ``cache``."""

    llm: Client
    ways: tuple[str, ...]
    feedback: str | None
    cache: Path

    @property
    def fingerprint(self) -> str:
        """What an answer depends on here. Raises ConfigError where the feedback cannot be read."""
        if not self.ways:
            return ""
        examples = content_hash(Path(self.feedback)) if self.feedback else ""
        return f"{self.ways} {self.llm.fingerprint} {examples}"

    def of(self, question: str, index: Index) -> Rewritten:
        """With examples whose passages ``index`` holds."""
        if not self.ways:
            return Rewritten()
        return rewrite(question, self.ways, self.llm, REWRITE_SECONDS, self._examples(question, index))

    def _examples(self, question: str, index: Index) -> Sequence[Example]:
        if self.feedback is None:
            return ()
        passages = list(index.passages())
        try:
            helped = own_questions(self.feedback, [], passages, {passage.doc_id: "train" for passage in passages})
        except DataError as error:  # somebody is waiting for an answer
            log.warning("no examples to rewrite by: %s", str(error).splitlines()[0])
            return ()
        if helped.dropped:
            log.info("feedback: %d lines name no passage of the index", len(helped.dropped))
        encoder = CachedEncoder(index.encoder, self.cache) if isinstance(index.encoder, DenseEncoder) else index.encoder
        return examples_near(question, helped.splits["train"], index, encoder)


def ask(
    config: Config,
    folders: Sequence[str],
    question: str,
    *,
    top_k: int = 6,
    ways: Sequence[str] = (),
    feedback: str | None = None,
    use_cache: bool = True,
    where: Filter = (),
) -> Mapping[str, Any]:
    """Answer ``question`` from the ``top_k`` best passages of the indexes in ``folders``; of several, the language
    model first says which may hold the answer. ``ways``: how it rewrites the question for further lanes, shown
    questions of the file ``feedback`` that are near, with words of the passages that people found helpful. ``where``:
    only passages that meet it.

    Returns ``{"question", "found", "answer", "truncated", "reason", "citations", "passages", "indexes", "cached",
    "rewritten", "llm"}``; ``citations`` holds ``{"n", "passage_id", "doc_id", "text", "index"}`` for each number in
    the answer. A question in the words of one before, or of which the language model says that it asks the same, gets
    that answer (``cached`` is what it was asked as), as long as all that it rests on is the same. Raises ConfigError
    without a language model or an index and for ``feedback`` that cannot be read, ServiceError when the model fails.
    """
    with open_llm(config) as client:
        indexes, llm = _opened(config, folders, client)
        search = partial(search_all, top_k=top_k, where=where)
        rewriter = llm.with_model(config.llm.rewrite_model) if config.llm.rewrite_model else llm
        rewriting = Rewriting(rewriter, tuple(ways), feedback, config.workspace_folder / "embeddings")
        return _with_cache(config, indexes, llm, question, search, rewriting, use_cache=use_cache)


def plan_ask(
    config: Config,
    folders: Sequence[str],
    question: str,
    *,
    top_k: int = 6,
    ways: Sequence[str] = (),
    where: Filter = (),
) -> dict[str, Any]:
    """What it would take at most, answered from what the question finds by itself. Nothing is written."""
    with open_llm(config, dry_run=True) as client:
        indexes, llm = _opened(config, folders, client)
        rewriter = llm.with_model(config.llm.rewrite_model) if config.llm.rewrite_model else llm
        rewriting = list(rewriting_requests(question, ways).values())
        asked = [routing_request(question, indexes)] if len(indexes) > 1 else []
        hits = search_all(indexes, question, top_k, where=where)
        if hits:
            asked.append(answer_request(question, [hit["text"] for hit in hits]))
        return plan_of([step_of("answer")], calls_in_all(llm.estimate(asked), rewriter.estimate(rewriting)))


def _opened(config: Config, folders: Sequence[str], llm: Client | None) -> tuple[list[Index], Client]:
    """Raises ConfigError without an index or a language model, and for an index that does not open."""
    if not folders:
        raise ConfigError("ask needs --index FOLDER; give it once for every index")
    if llm is None:
        raise ConfigError("ask needs a language model; give --llm URL and --llm-model NAME, or use search")
    task, how = config.task or None, config.runtime
    return [open_index(folder, task=task, **how) for folder in dict.fromkeys(folders)], llm


def _with_cache(
    config: Config,
    indexes: Sequence[Index],
    llm: Client,
    question: str,
    search: Search,
    rewriting: Rewriting,
    *,
    use_cache: bool = True,
    until: float | None = None,
) -> Mapping[str, Any]:
    """``until``: by the monotonic clock, when nobody will wait any more."""
    of_indexes = [(index.location, index.manifest["fingerprint"], index.manifest["task"]) for index in indexes]
    context = f"{of_indexes} {llm.fingerprint} {search.keywords} {rewriting.fingerprint}"
    find = partial(_find, indexes, llm, search, rewriting)
    if not use_cache:
        return {**_answered(llm, question, find(question), until), "llm": llm.ledger.account()}
    with _answer_cache(config, context) as cache:
        answer = _known_or_answered(llm, cache, question, partial(_vector, indexes[0].encoder), find, until)
        return {**answer, "llm": llm.ledger.account()}


def _answer_cache(config: Config, context: str) -> AnswerCache:
    return AnswerCache(config.workspace_folder / "llm" / "answers.sqlite", context)


class Asker:
    """Questions to open indexes, as the service asks them: (names, question, top_k, where) -> as ``ask``, the indexes
    by their names. ``indexes`` may change between questions. May be called from several threads; the budget of the
    configuration holds for each question, and nothing is waited for longer than `serve.request_seconds`."""

    def __init__(self, config: Config, indexes: Mapping[str, Index]) -> None:
        """Raises ConfigError and ArtifactError where the first question would."""
        self._config, self._indexes = config, indexes
        with open_llm(config), _answer_cache(config, ""):
            pass

    def __call__(self, names: Sequence[str], question: str, top_k: int, where: Filter) -> Mapping[str, Any]:
        until = time.monotonic() + self._config.serve.request_seconds
        search = partial(search_all, top_k=top_k, where=where)
        asked = [self._indexes[name] for name in names]
        with open_llm(self._config) as llm:
            assert llm is not None
            rewriting = Rewriting(llm, (), None, Path())
            answer = _with_cache(self._config, asked, llm, question, search, rewriting, until=until)
        served_as = {index.location: name for name, index in zip(names, asked, strict=True)}
        citations = [{**citation, "index": served_as[citation["index"]]} for citation in answer["citations"]]
        return {**answer, "citations": citations, "indexes": [served_as[place] for place in answer["indexes"]]}


@dataclass(frozen=True)
class _Found:
    """What a question is answered from: the ``indexes`` that were searched, by what else, and the passages."""

    indexes: tuple[Index, ...]
    rewritten: Rewritten
    hits: list[dict[str, Any]]


def _find(indexes: Sequence[Index], llm: Client, search: Search, rewriting: Rewriting, question: str) -> _Found:
    """Route, rewrite and search. For a question of before no call is made: those replies are kept."""
    chosen = route(question, indexes, llm, REWRITE_SECONDS)
    rewritten = rewriting.of(question, chosen[0])
    return _Found(chosen, rewritten, search(chosen, question, rewritten=rewritten))


def _known_or_answered(
    llm: Client,
    cache: AnswerCache,
    question: str,
    vector_of: Callable[[str], Vector],
    find: Callable[[str], _Found],
    until: float | None,
) -> Mapping[str, Any]:
    def evidence_of(asked: str) -> Evidence:
        return _evidence(find(asked).hits)

    known = cache.find(question, evidence_of)
    if known:
        return {**known[1], "question": question, "cached": known[0]}
    vector = vector_of(question)
    near = cache.nearest(vector)
    if near and ask_the_same(question, near, llm, REWRITE_SECONDS) and (known := cache.find(near, evidence_of)):
        return {**known[1], "question": question, "cached": known[0]}
    found = find(question)
    answered = _answered(llm, question, found, until)
    cache.keep(question, vector, answered, _evidence(found.hits))
    return answered


def _vector(encoder: Encoder, question: str) -> Vector:
    dense = encoder.encode_queries([question]).dense
    assert dense is not None  # an index has a dense lane
    vector: Vector = unit_length(dense)[0]
    return vector


def _answered(llm: Client, question: str, found: _Found, until: float | None) -> Mapping[str, Any]:
    answer = _answer(llm, question, found.hits, until)
    return {
        "question": question,
        "found": answer.found,
        "answer": answer.text,
        "truncated": answer.is_cut,
        "reason": answer.reason,
        "citations": [{"n": n, **_shown(found.hits[place])} for n, place in enumerate(answer.cited, start=1)],
        "passages": [hit["passage_id"] for hit in found.hits],
        "indexes": [index.location for index in found.indexes],
        "cached": None,
        "rewritten": {
            "keywords": list(found.rewritten.keywords),
            "variants": list(found.rewritten.variants),
            "hypothetical": found.rewritten.hypothetical,
        },
    }


def _answer(llm: Client, question: str, hits: Sequence[Mapping[str, Any]], until: float | None) -> Answer:
    if not hits:
        return Answer("", found=False, reason="nothing was found")
    deadline = None if until is None else max(0.0, until - time.monotonic())
    (reply,) = llm.ask([answer_request(question, [hit["text"] for hit in hits])], deadline=deadline)
    if reply.refused:
        raise ServiceError(f"the language model refuses the question: {reply.refused}")
    return read_answer(reply, len(hits))


def _shown(hit: Mapping[str, Any]) -> dict[str, Any]:
    return {key: hit[key] for key in ("passage_id", "doc_id", "text", "index")}


def _evidence(hits: Sequence[Mapping[str, Any]]) -> Evidence:
    return {
        f"{hit['index']} {hit['passage_id']}": hashlib.sha256(hit["text"].encode("utf-8", "surrogatepass")).hexdigest()[
            :16
        ]
        for hit in hits
    }
