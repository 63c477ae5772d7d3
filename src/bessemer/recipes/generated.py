"""Questions by a language model: asked for, filtered one rule after the other, found again; with an account of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bessemer.config import Config, QuestionsConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder
from bessemer.llm.client import Client
from bessemer.llm.ledger import CHARACTERS_PER_TOKEN, Tokens
from bessemer.llm.request import Reply, Request
from bessemer.llm.request_cache import RequestCache
from bessemer.questions.filters import distinct, judged, obeying, shared_out
from bessemer.questions.generate import PARAPHRASE, PARSE, Draft, generate
from bessemer.questions.prompts import TOKENS_PER_QUESTION
from bessemer.questions.review import Decision, n_without_draft, reviewed
from bessemer.questions.round_trip import round_trip
from bessemer.recipes.data import passage_tokens
from bessemer.recipes.funnel import funnel_stage
from bessemer.recipes.prepare import prepare
from bessemer.recipes.systems import bm25_over, dense_over
from bessemer.types import Dropped, Filtered, Judged, Passage, Query

SPLITS = ("train", "dev", "test", "seen")


@dataclass(frozen=True)
class Written:
    """Questions that all filters let pass, what was dropped, and how it went.

    ``funnel``: a row for each stage; ``easiness``: split -> system -> share of questions whose passage it ranks first;
    ``calls``: what the language model was asked, and what that cost; ``n_lost``: questions that a person wants and that
    are not there any more.
    """

    drafts: tuple[Draft, ...]
    dropped: tuple[Dropped, ...]
    funnel: tuple[Mapping[str, Any], ...]
    easiness: Mapping[str, Mapping[str, float]]
    calls: Mapping[str, Any]
    n_lost: int = 0


@contextmanager
def open_llm(config: Config, *, dry_run: bool = False) -> Iterator[Client | None]:
    """The language model that the configuration names, if any; its answers are kept in the workspace. In a dry run
    nothing is made there."""
    if config.llm.url is None:
        yield None
        return
    file = config.workspace_folder / "llm" / "replies.sqlite"
    with RequestCache(None if dry_run and not file.exists() else file) as cache:
        yield Client(config.llm, cache)


def written_questions(
    passages: Sequence[Passage],
    splits: Mapping[str, str],
    llm: Client,
    encoder: Encoder | None,
    config: QuestionsConfig,
    seed: int,
    review: Mapping[str, Decision] | None = None,
) -> Written:
    """Ask about every passage and keep what stands all tests, and a person's where there is a review. ``splits``:
    doc_id to train, dev or test. Without an encoder, BM25 alone must find a question's passage."""
    before = llm.ledger.usage
    asked = generate(passages, splits, llm, config, seed)
    by_id = {passage.passage_id: passage for passage in passages}
    stages = _Stages(asked.kept, [item for item in asked.dropped if item.stage != PARAPHRASE])
    stages.through(lambda found: obeying(found, by_id))
    stages.through(distinct)
    systems = {"bm25": bm25_over(passages)} | ({} if encoder is None else {"base": dense_over(passages, encoder)})
    found, easiness = round_trip(stages.kept, systems, config.round_trip)
    stages.through(lambda _: found)
    if config.judge:
        stages.through(lambda found: judged(found, by_id, llm))
    stages.through(lambda found: shared_out(found, config.max_source_share))
    n_lost = n_without_draft(stages.kept, review or {})
    if review is not None:
        stages.through(lambda found: reviewed(found, review))
        stages.through(distinct)  # a person may have edited two to the same words
    unchanged = sum(item.stage == PARAPHRASE for item in asked.dropped)
    calls = {
        "model": llm.model,
        "passages_asked_about": asked.n_asked,
        "answers_cut": asked.n_cut,
        "questions_not_paraphrased": unchanged,
        **llm.ledger.account(since=before),
    }
    return Written(stages.kept, tuple(stages.dropped), tuple(stages.funnel), easiness, calls, n_lost)


def estimate(
    passages: Sequence[Passage], splits: Mapping[str, str], llm: Client, config: QuestionsConfig, seed: int
) -> Mapping[str, Any]:
    """What asking about a corpus would take at most, if the model writes no more questions than it is asked for."""
    foreseen = _Foreseen(llm)
    drafts = generate(passages, splits, foreseen, config, seed).kept
    if config.judge:
        judged(drafts, {passage.passage_id: passage for passage in passages}, foreseen)
    return llm.estimate(foreseen.requests)


def estimate_of_documents(config: Config, encoder: DenseEncoder, llm: Client) -> Mapping[str, Any]:
    """`estimate` for ``config.source``, cut into passages as it would be. Raises as `prepare` does."""
    prepared = prepare(config, encoder.count_tokens, passage_tokens(config, encoder))
    return estimate(prepared.passages, prepared.splits, llm, config.questions, config.seed)


def by_split(drafts: Sequence[Draft]) -> dict[str, Judged]:
    """Queries with judgements; a split may have none."""
    found: dict[str, Judged] = {}
    for split in SPLITS:
        own = {draft.query_id: draft for draft in drafts if draft.split == split}
        queries = tuple(Query(query_id, one.text, origin=one.origin) for query_id, one in own.items())
        found[split] = Judged(queries, {key: dict.fromkeys(one.passage_ids, 1) for key, one in own.items()})
    return found


class _Foreseen:
    """Stands in for a language model: nothing is asked, and what would be is in ``requests``. An answer that is kept is
    given; any other has as many questions as were asked for, as long as they may be."""

    fingerprint = "nothing is asked"

    def __init__(self, llm: Client) -> None:
        self._llm = llm
        self.requests: list[Request] = []

    def ask(self, requests: Sequence[Request], *, deadline: float | None = None) -> list[Reply]:
        del deadline
        self.requests += requests
        return [self._llm.kept(request) or _longest_reply(request) for request in requests]


def _longest_reply(request: Request) -> Reply:
    """Questions that differ, or they would be taken for one."""
    length = TOKENS_PER_QUESTION * CHARACTERS_PER_TOKEN
    questions = [f"{i:x>{length}}" for i in range(request.max_tokens // TOKENS_PER_QUESTION)]
    return Reply(json.dumps(questions), Tokens(0, 0))


class _Stages:
    """Questions on their way through the filters."""

    def __init__(self, kept: Sequence[Draft], dropped: Sequence[Dropped]) -> None:
        self.kept = tuple(kept)
        self.dropped = list(dropped)
        self.funnel = [funnel_stage(PARSE, len(kept), dropped)]

    def through(self, filtered: Callable[[Sequence[Draft]], Filtered[Draft]]) -> None:
        """A filter may have several stages of its own, told apart by its drops."""
        result = filtered(self.kept)
        left = len(self.kept)
        for stage, n in Counter(item.stage for item in result.dropped).items():
            left -= n
            self.funnel.append(funnel_stage(stage, left, [item for item in result.dropped if item.stage == stage]))
        self.kept = result.kept
        self.dropped += result.dropped
