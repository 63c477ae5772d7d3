"""Questions that a language model writes about passages: asked for, read, put into other words."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bessemer.config import QuestionsConfig
from bessemer.draws import uniform
from bessemer.llm.parse import Parsed, parse_questions
from bessemer.llm.request import LLM, Request
from bessemer.questions.prompts import held_out_request, pair_request, paraphrase_request, train_request
from bessemer.questions.split import MAX_SEEN, SEEN_SHARE
from bessemer.types import Dropped, Passage

STAGE, PARSE, PARAPHRASE = "ask", "parse", "paraphrase"

_OBJECTS = re.compile(r'"(?:question|query)"\s*:')
"""Stands in an answer of objects, which have a place for evidence; strings in a list or between ``|`` have none."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A question with the passages that answer it, before it is believed. ``doc_id``: where the first one stands;
    ``evidence``: "" where the model left it out, None where its answer had no place for it."""

    text: str
    passage_ids: tuple[str, ...]
    doc_id: str
    split: str
    evidence: str | None = None
    origin: str = "mined"

    @property
    def query_id(self) -> str:
        identity = "\n".join((*self.passage_ids, self.text)).encode("utf-8", "surrogatepass")
        return f"{self.origin}-{hashlib.sha256(identity).hexdigest()[:12]}"

    def dropped(self, stage: str, reason: str, score: float | None = None) -> Dropped:
        return Dropped(self.query_id, stage, reason, self.text, score, self.passage_ids[0])


@dataclass(frozen=True, slots=True)
class Order:
    """One call, and what it is about."""

    request: Request
    passages: tuple[Passage, ...]
    split: str


@dataclass(frozen=True, slots=True)
class Drafts:
    """What was asked for and came back as questions, what did not, and the number of answers that broke off."""

    kept: tuple[Draft, ...]
    dropped: tuple[Dropped, ...]
    n_asked: int
    n_cut: int


def orders(
    passages: Sequence[Passage], splits: Mapping[str, str], config: QuestionsConfig, seed: int
) -> Iterator[Order]:
    """Every call for a corpus: train passages by themselves and some with their neighbour; dev, test and, of some train
    passages, ``seen`` by another prompt. ``splits``: doc_id to train, dev or test."""
    for passage in passages:
        split = splits[passage.doc_id]
        make = train_request if split == "train" else held_out_request
        yield Order(make(passage, config, seed), (passage,), split)
    for first, second in pairwise(passages):
        is_drawn = uniform(seed, f"pair {first.passage_id}") < config.multi_passage_share
        if first.doc_id == second.doc_id and splits[first.doc_id] == "train" and is_drawn:
            yield Order(pair_request(first, second, config), (first, second), "train")
    places = {p.passage_id: uniform(seed, f"seen {p.passage_id}") for p in passages if splits[p.doc_id] == "train"}
    seen = [p for p in passages if places.get(p.passage_id, 1) < SEEN_SHARE]
    for passage in sorted(seen, key=lambda p: places[p.passage_id])[:MAX_SEEN]:
        yield Order(held_out_request(passage, config, seed), (passage,), "seen")


def generate(
    passages: Sequence[Passage], splits: Mapping[str, str], llm: LLM, config: QuestionsConfig, seed: int
) -> Drafts:
    """Ask, read, and put what dev, test and seen ask into other words. Raises what ``llm.ask`` raises."""
    asked = list(orders(passages, splits, config, seed))
    found: list[Draft] = []
    dropped: list[Dropped] = []
    n_cut = 0
    for order, reply in zip(asked, llm.ask([order.request for order in asked]), strict=True):
        home = order.passages[0].passage_id
        if reply.refused:
            dropped.append(Dropped(home, STAGE, "the service refuses this passage", reply.refused, None, home))
            continue
        parsed = parse_questions(reply.text)
        n_cut += parsed.is_cut or not reply.is_whole
        dropped += [Dropped(home, PARSE, reason, text, None, home) for text, reason in parsed.refused]
        if not parsed.questions and not _is_empty_list(reply.text):
            dropped.append(Dropped(home, PARSE, "no question in the answer", reply.text[:500], None, home))
        found += _drafts(order, parsed, has_objects=bool(_OBJECTS.search(reply.text)))
    if not _gives_evidence(found):
        found = [replace(draft, evidence=draft.evidence or None) for draft in found]
    if config.paraphrase:
        found, unchanged = paraphrased(found, llm)
        dropped += unchanged
    return Drafts(tuple(found), tuple(dropped), len(asked), n_cut)


def _drafts(order: Order, parsed: Parsed, *, has_objects: bool) -> list[Draft]:
    """A bare string among objects leaves its evidence out, too: otherwise it were the way around that rule."""
    ids = tuple(passage.passage_id for passage in order.passages)
    return [
        Draft(asked.text, ids, order.passages[0].doc_id, order.split, asked.evidence if has_objects else None)
        for asked in parsed.questions
    ]


def _gives_evidence(drafts: Sequence[Draft]) -> bool:
    """Whether the model does so as a rule. Where it does not, evidence that is missing tells nothing."""
    given = [bool(draft.evidence) for draft in drafts if draft.evidence is not None]
    return 2 * sum(given) >= len(given)


def paraphrased(drafts: Sequence[Draft], llm: LLM) -> tuple[list[Draft], list[Dropped]]:
    """Questions outside train in other words, in their places; where an answer is not one for each, they stay as they
    were, which is noted."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, draft in enumerate(drafts):
        if draft.split != "train":
            groups[draft.split, *draft.passage_ids].append(i)
    requests = [paraphrase_request([drafts[i].text for i in members]) for members in groups.values()]
    found, notes = list(drafts), []
    for members, reply in zip(groups.values(), llm.ask(requests), strict=True):
        texts = [asked.text for asked in parse_questions(reply.text).questions]
        if len(texts) != len(members):
            reason = f"{len(texts)} answers for {len(members)} questions: kept as they were"
            notes += [drafts[i].dropped(PARAPHRASE, reason) for i in members]
            continue
        for i, text in zip(members, texts, strict=True):
            found[i] = replace(drafts[i], text=text, origin="paraphrased")
    return found, notes


def _is_empty_list(answer: str) -> bool:
    """The model says that there is nothing to ask."""
    return answer.replace("```json", "").strip("` \n") in ("[]", "{}")
