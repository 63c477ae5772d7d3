"""What a generated question must be, one reason after the other. Nothing goes without being kept as dropped."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from bessemer.llm.parse import says_no, says_yes
from bessemer.llm.request import LLM, Reply
from bessemer.questions.alike import NEAR_DUPLICATE, near_duplicates
from bessemer.questions.generate import Draft
from bessemer.questions.hostile import hostility
from bessemer.questions.phrases import content_words
from bessemer.questions.prompts import judge_request
from bessemer.questions.words import THIS
from bessemer.text import is_han, n_words, units
from bessemer.types import Filtered, Passage

FEWEST_WORDS, MOST_WORDS = 2, 40
EVIDENCE_FOUND = 0.8
"""Share of the evidence's words that must stand in the passages: models mend what they copy."""
COPIED_SHARE, COPIED_WORDS, COPIED_HAN = 0.6, 6, 10
"""A run of the passage's words that makes up most of a question, and is longer than a name."""
FEWEST_SHARED = 7
"""A question of so many content words that all stand in the passage says nothing in words of its own."""
FEWEST_OF_SOURCE = 10
"""Questions that a document may always bring."""

_TELLS = (
    "say|mention|state|describe|explain|discuss|recommend|suggest|claim|define|list|tell|give|contain|cover|include|"
    "show|present|provide|refer|warn|specify"
)
_TELLS_ZH = "提到|提及|认为|指出|强调|建议|说(?!明)|讲了|介绍了|描述了|的?主[要旨]"
_POINTS = re.compile(
    r"\b(?:this|that|these|those|the (?:above|following|given|provided|present|said)) (?:document|passage|text|article|"
    r"section|page|chapter|paragraph|excerpt|table|figure|file|report|study|paper|author|example|case|snippet)s?\b"
    r"|\b(?:in|from|of|by|to|does|is|what|per) the (?:passage|excerpt|snippet|above|article's author)\b"
    r"|\b(?:according to|per|(?:purpose|topic|subject) of|(?:said|stated|described|given|discussed) in) "
    r"the (?:text|document)\b"
    rf"|\bthe (?:text|document) (?:{_TELLS})s?\b|\bis the (?:text|document) about\b"
    r"|\bmentioned (?:above|here|in the)|\bthe author(?:s|'s)?\b(?! of an? )"
    rf"|(?:{THIS}|(?<!应)该|这|(?<![因如从由彼])此)(?:文|段|篇|表(?!示)|节(?!点))|{THIS}[章页]"
    rf"|(?:文章|作者)(?:中|里)?(?:{_TELLS_ZH})|(?:根据|按照)文章|[该此]作者|这位作者"
    r"|上文(?![件档本字章])|上述|(?<![英中外日俄韩法德正论作下译])文中|以上(?:内容|文字|段落)"
    r"|^(?:he|she|it|they|this|that)\b(?! (?:possible|safe|true|necessary|important)\b)",
    re.IGNORECASE,
)

Rule = Callable[[Draft, Sequence[Passage]], str]


def length(draft: Draft, _: Sequence[Passage]) -> str:
    n = n_words(draft.text)
    if n < FEWEST_WORDS or not content_words(draft.text):
        return "too short to say what it is about"
    return "too long" if n > MOST_WORDS else ""


def language(draft: Draft, passages: Sequence[Passage]) -> str:
    """Judged by the script of most words: enough to tell an English question about a Chinese passage."""
    own, theirs = script(draft.text), script("\n".join(passage.text for passage in passages))
    return "not in the language of its passage" if own != theirs and "" not in (own, theirs) else ""


def no_instruction(draft: Draft, _: Sequence[Passage]) -> str:
    return hostility(draft.text)


def stands_alone(draft: Draft, _: Sequence[Passage]) -> str:
    return "points at its passage, which nobody has who asks" if _POINTS.search(draft.text) else ""


def evidence(draft: Draft, passages: Sequence[Passage]) -> str:
    """A hijacked model could leave it out: where the answer has a place for it, it must stand there."""
    if draft.evidence is None:
        return ""
    wanted = Counter(units(draft.evidence))
    if not wanted:
        return "the model gives no evidence for it"
    held = Counter(units("\n".join(passage.indexed_text for passage in passages)))
    share = sum((wanted & held).values()) / wanted.total()
    return "its evidence does not stand in the passage" if share < EVIDENCE_FOUND else ""


def own_words(draft: Draft, passages: Sequence[Passage]) -> str:
    words = units(draft.text)
    for passage in passages:
        run = _longest_run(words, units(passage.indexed_text))
        longest = COPIED_HAN if is_han(draft.text) else COPIED_WORDS
        if run == len(words) or (run >= longest and run >= COPIED_SHARE * len(words)):
            return "copied from its passage"
    content = set(content_words(draft.text))
    held = {word for passage in passages for word in content_words(passage.indexed_text)}
    if len(content) >= FEWEST_SHARED and content <= held:
        return "every word of it stands in its passage"
    return ""


RULES: dict[str, Rule] = {
    "length": length,
    "language": language,
    "hostile": no_instruction,
    "stands alone": stands_alone,
    "evidence": evidence,
    "leakage": own_words,
}


def obeying(drafts: Sequence[Draft], passages: Mapping[str, Passage]) -> Filtered[Draft]:
    """What all RULES let pass; the first that does not is the reason."""
    kept, dropped = [], []
    for draft in drafts:
        own = [passages[passage_id] for passage_id in draft.passage_ids]
        faults = ((stage, rule(draft, own)) for stage, rule in RULES.items())
        stage, reason = next(((stage, reason) for stage, reason in faults if reason), ("", ""))
        if reason:
            dropped.append(draft.dropped(stage, reason))
        else:
            kept.append(draft)
    turn = {stage: i for i, stage in enumerate(RULES)}
    return Filtered(tuple(kept), tuple(sorted(dropped, key=lambda item: turn[item.stage])))


def distinct(drafts: Sequence[Draft]) -> Filtered[Draft]:
    """The first of questions that ask the same, those of test before dev and train: what is measured is not to be
    thrown away for what is trained on, and neither may stand in both. Those of seen come last: there are others of
    train passages to ask."""
    turn = {"test": 0, "dev": 1, "train": 2, "seen": 3}
    order = sorted(range(len(drafts)), key=lambda i: turn[drafts[i].split])
    twins = near_duplicates([drafts[i].text for i in order])
    kept = [i for place, i in enumerate(order) if place not in twins]
    dropped = [
        drafts[order[place]].dropped("duplicates", "asks the same as another question", similarity)
        for place, similarity in twins.items()
    ]
    return Filtered(tuple(drafts[i] for i in sorted(kept)), tuple(dropped), NEAR_DUPLICATE)


def judged(drafts: Sequence[Draft], passages: Mapping[str, Passage], llm: LLM) -> Filtered[Draft]:
    """Those of which the model says that their passages, together where there are several, answer them. What is no
    verdict is no yes. Raises what ``llm.ask`` raises."""
    requests = [judge_request(draft.text, [passages[one] for one in draft.passage_ids]) for draft in drafts]
    kept, dropped = [], []
    for draft, reply in zip(drafts, llm.ask(requests), strict=True):
        fault = _verdict_fault(reply, len(draft.passage_ids))
        if fault:
            dropped.append(draft.dropped("judge", fault))
        else:
            kept.append(draft)
    return Filtered(tuple(kept), tuple(dropped))


def _verdict_fault(reply: Reply, n_passages: int) -> str:
    """Why the judge does not let a question pass; "" where it does."""
    if reply.refused:
        return "the service refuses to judge it"
    if says_yes(reply.text):
        return ""
    if says_no(reply.text):
        return "the passage does not answer it" if n_passages == 1 else "its passages together do not answer it"
    return "the judge says neither yes nor no"


def shared_out(drafts: Sequence[Draft], max_share: float) -> Filtered[Draft]:
    """No document brings more than ``max_share`` of a split's questions, where there are documents enough: 10 questions
    and twice an even share are always allowed. One flooded document is not to decide what a model learns."""
    n_of_split = Counter(draft.split for draft in drafts)
    n_documents = Counter(split for split, _ in {(draft.split, draft.doc_id) for draft in drafts})
    taken: Counter[tuple[str, str]] = Counter()
    kept, dropped = [], []
    for draft in drafts:
        share = max(max_share, 2 / n_documents[draft.split])
        most = max(FEWEST_OF_SOURCE, math.floor(share * n_of_split[draft.split]))
        if taken[draft.split, draft.doc_id] >= most:
            dropped.append(draft.dropped("source share", "its document has more than its share of questions"))
            continue
        taken[draft.split, draft.doc_id] += 1
        kept.append(draft)
    return Filtered(tuple(kept), tuple(dropped), max_share)


def script(text: str) -> str:
    """The script of most words, as Unicode names it (``Latin``, ``Chinese``, ...); "" without words. Japanese counts
    as Chinese."""
    counts: Counter[str] = Counter()
    for word in units(text):
        letter = next((character for character in word if character.isalpha()), "")
        if letter:
            counts[_SCRIPTS.get(name := unicodedata.name(letter, "UNKNOWN").split()[0], name.capitalize())] += 1
    return counts.most_common(1)[0][0] if counts else ""


_SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Chinese", "KATAKANA": "Chinese"}


def _longest_run(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest run of words that stands in both."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, word in enumerate(right):
        places[word].append(i)
    longest = 0
    ending_at: dict[int, int] = {}
    for word in left:
        ending_at = {i: ending_at.get(i - 1, 0) + 1 for i in places.get(word, ())}
        longest = max(longest, *ending_at.values(), 0)
    return longest
