"""What a generated question must be, one reason after the other. Nothing goes without being kept as dropped."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from bessemer.llm.request import LLM
from bessemer.questions.generate import Candidate
from bessemer.questions.hostile import hostility
from bessemer.questions.phrases import content_words
from bessemer.questions.prompts import judge_request
from bessemer.text import is_han, n_words, normal_form, units
from bessemer.types import Filtered, Passage

FEWEST_WORDS, MOST_WORDS = 2, 40
EVIDENCE_FOUND = 0.8
"""Share of the evidence's words that must stand in the passages: models mend what they copy."""
COPIED_SHARE, COPIED_WORDS, COPIED_HAN = 0.6, 6, 10
"""A run of the passage's words that makes up most of a question, and is longer than a name."""
SHARED_WORDS, FEWEST_SHARED = 1.0, 7
"""A question of so many content words that all stand in the passage says nothing in words of its own."""
NEAR_DUPLICATE = 0.8
"""Jaccard similarity of the words of two questions."""
FEWEST_OF_SOURCE = 10
"""Questions that a document may always bring."""

_POINTS = re.compile(
    r"\b(?:this|that|these|those|the (?:above|following|given|provided|present|said)) (?:document|passage|text|article|"
    r"section|page|chapter|paragraph|excerpt|table|figure|file|report|study|paper|author|example|case|snippet)s?\b"
    r"|\b(?:in|from|of|by|to|does|is|what|per) the (?:passage|text|document|excerpt|snippet|above|article's author)\b"
    r"|\bmentioned (?:above|here|in the)|\bthe author(?:s|'s)?\b"
    r"|本(?:文|节|章|页|段|篇|文档|文章)|(?:该|这|此)(?:文|段|篇|节|文档|文章|段落|表)|上文|上述|文中|文章|作者|以上(?:内容|文字|段落)"
    r"|^(?:he|she|it|they|this|that)\b(?! (?:possible|safe|true|necessary|important)\b)",
    re.IGNORECASE,
)

Rule = Callable[[Candidate, Sequence[Passage]], str]


def length(candidate: Candidate, _: Sequence[Passage]) -> str:
    n = n_words(candidate.text)
    if n < FEWEST_WORDS or not content_words(candidate.text):
        return "too short to say what it is about"
    return "too long" if n > MOST_WORDS else ""


def language(candidate: Candidate, passages: Sequence[Passage]) -> str:
    """Judged by the script of most words: enough to tell an English question about a Chinese passage."""
    own, theirs = script(candidate.text), script("\n".join(passage.text for passage in passages))
    return "not in the language of its passage" if own != theirs and "" not in (own, theirs) else ""


def no_instruction(candidate: Candidate, _: Sequence[Passage]) -> str:
    return hostility(candidate.text)


def stands_alone(candidate: Candidate, _: Sequence[Passage]) -> str:
    return "points at its passage, which nobody has who asks" if _POINTS.search(candidate.text) else ""


def evidence(candidate: Candidate, passages: Sequence[Passage]) -> str:
    wanted = Counter(units(candidate.evidence))
    if not wanted:
        return ""
    held = Counter(units("\n".join(passage.indexed_text for passage in passages)))
    share = sum((wanted & held).values()) / wanted.total()
    return "its evidence does not stand in the passage" if share < EVIDENCE_FOUND else ""


def own_words(candidate: Candidate, passages: Sequence[Passage]) -> str:
    words = units(candidate.text)
    for passage in passages:
        run = _longest_run(words, units(passage.indexed_text))
        longest = COPIED_HAN if is_han(candidate.text) else COPIED_WORDS
        if run == len(words) or (run >= longest and run >= COPIED_SHARE * len(words)):
            return "copied from its passage"
    content = set(content_words(candidate.text))
    held = {word for passage in passages for word in content_words(passage.indexed_text)}
    if len(content) >= FEWEST_SHARED and len(content & held) >= SHARED_WORDS * len(content):
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


def obeying(candidates: Sequence[Candidate], passages: Mapping[str, Passage]) -> Filtered[Candidate]:
    """What all RULES let pass; the first that does not is the reason."""
    kept, dropped = [], []
    for candidate in candidates:
        own = [passages[passage_id] for passage_id in candidate.passage_ids]
        faults = ((stage, rule(candidate, own)) for stage, rule in RULES.items())
        stage, reason = next(((stage, reason) for stage, reason in faults if reason), ("", ""))
        if reason:
            dropped.append(candidate.dropped(stage, reason))
        else:
            kept.append(candidate)
    turn = {stage: i for i, stage in enumerate(RULES)}
    return Filtered(tuple(kept), tuple(sorted(dropped, key=lambda item: turn[item.stage])))


def distinct(candidates: Sequence[Candidate]) -> Filtered[Candidate]:
    """The first of questions that ask the same, those of test before dev, seen and train: what is measured is not to
    be thrown away for what is trained on, and neither may stand in both."""
    turn = {"test": 0, "dev": 1, "seen": 3}  # seen after train (2): it is asked of train passages
    order = sorted(range(len(candidates)), key=lambda i: turn.get(candidates[i].split, 2))
    words = [frozenset(normal_form(candidate.text).split()) for candidate in candidates]
    twins = _near_duplicates([words[i] for i in order])
    kept = [i for place, i in enumerate(order) if place not in twins]
    dropped = [
        candidates[order[place]].dropped("duplicates", "asks the same as another question", similarity)
        for place, similarity in twins.items()
    ]
    return Filtered(tuple(candidates[i] for i in sorted(kept)), tuple(dropped), NEAR_DUPLICATE)


def _near_duplicates(sets: Sequence[frozenset[str]]) -> dict[int, float]:
    """index -> Jaccard similarity to an earlier one that is kept. Exact, by prefix filtering (Chaudhuri et al. 2006):
    two sets that are alike share one of the few rarest words of each."""
    frequency = Counter(word for words in sets for word in words)
    kept_with: dict[str, list[int]] = defaultdict(list)
    found: dict[int, float] = {}
    for i, words in enumerate(sets):
        n_prefix = len(words) - math.ceil(NEAR_DUPLICATE * len(words)) + 1
        prefix = sorted(words, key=lambda word: (frequency[word], word))[:n_prefix]
        others = {other for word in prefix for other in kept_with[word]}
        similarity = max((len(words & sets[other]) / len(words | sets[other]) for other in others), default=0.0)
        if similarity >= NEAR_DUPLICATE:
            found[i] = similarity
            continue
        for word in prefix:
            kept_with[word].append(i)
    return found


def judged(candidates: Sequence[Candidate], passages: Mapping[str, Passage], llm: LLM) -> Filtered[Candidate]:
    """Those of which the model says that the passage answers them; of several passages the first must do."""
    requests = [judge_request(candidate.text, passages[candidate.passage_ids[0]]) for candidate in candidates]
    says_no = [
        reply.text.strip().casefold().lstrip("*`\"' ").startswith(("no", "否", "不")) for reply in llm.ask(requests)
    ]
    kept = tuple(c for c, no in zip(candidates, says_no, strict=True) if not no or len(c.passage_ids) > 1)
    left = {id(candidate) for candidate in kept}
    dropped = [c.dropped("judge", "the passage does not answer it") for c in candidates if id(c) not in left]
    return Filtered(kept, tuple(dropped))


def shared_out(candidates: Sequence[Candidate], max_share: float) -> Filtered[Candidate]:
    """No document brings more than ``max_share`` of a split's questions, where there are documents enough: 10 questions
    and twice an even share are always allowed. One flooded document is not to decide what a model learns."""
    n_of_split = Counter(candidate.split for candidate in candidates)
    n_documents = Counter(split for split, _ in {(candidate.split, candidate.doc_id) for candidate in candidates})
    taken: Counter[tuple[str, str]] = Counter()
    kept, dropped = [], []
    for candidate in candidates:
        share = max(max_share, 2 / n_documents[candidate.split])
        most = max(FEWEST_OF_SOURCE, math.floor(share * n_of_split[candidate.split]))
        if taken[candidate.split, candidate.doc_id] >= most:
            dropped.append(candidate.dropped("source share", "its document has more than its share of questions"))
            continue
        taken[candidate.split, candidate.doc_id] += 1
        kept.append(candidate)
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
