"""What could be asked of a passage, in its own words: headings, titles, sentences, key phrases."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from bessemer.questions.phrases import Rarity, content_words, key_phrases
from bessemer.questions.words import GENERIC_HEADINGS, THIS
from bessemer.text import is_han, n_words, normal_form, plain_inline, sentence_spans, units
from bessemer.types import Passage

MAX_SECTION = 5
"""Passages of a section up to which its heading is a query: beyond it, everything and nothing would answer."""

_GENERIC = frozenset(normal_form(heading) for heading in GENERIC_HEADINGS)

_POINTING = re.compile(
    r"(?:this|that|these|those|it|its|they|he|she|here|there|see|and|but|or|so|then|now|also|again|note|for example"
    r"|in this|as you|you'll|let's|the above|the following|both|such|however|therefore|thus)\b"
    r"|[这那它他她此该但而且另]|其(?![他它])|所(?!有)|并(?![发行])|因(?![特素])|如[上下此果图]|以[上下]",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"\b(?:above|below|following|earlier|previous|previously|copy that"
    r"|(?:this|that) (?:page|section|document|example|chapter|guide|file|case|code))\b"
    rf"|(?<![上目当])[上下前](?:[面述例]|文(?![件档本字章]))|{THIS}[节章文页例]|[这该此][个种里]",
    re.IGNORECASE,
)
_MARK = re.compile(r"[ \t]*(?:(?:[-*+•●▪]|\d{1,3}[.)]|>|#{1,6})[ \t]+)*")
_FENCE = re.compile(r"(?m)^[ \t]*(`{3,}|~{3,})[^\n]*\n(?:.*?\n)??[ \t]*\1[^\n]*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A query that could be taken out of passages.

    ``home`` is the passage it counts for, ``relevant`` all it is about; ``span`` is where it stands in the text of
    ``home`` (None but for sentences).
    """

    kind: str
    text: str
    home: str
    relevant: tuple[str, ...]
    span: tuple[int, int] | None = None


def heading_candidates(passages: Sequence[Passage]) -> Iterator[tuple[Candidate, str]]:
    """One candidate per section, and per title, with the reason why it is no good ("" if it is).

    A heading is about all passages of its section, deeper sections included.
    """
    sections: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    by_document: dict[str, list[Passage]] = defaultdict(list)
    for passage in passages:
        by_document[passage.doc_id].append(passage)
        for depth in range(1, len(passage.headings) + 1):
            sections[passage.doc_id, passage.headings[:depth]].append(passage.passage_id)
    found = [Candidate("heading", path[-1], ids[0], tuple(ids)) for (_, path), ids in sections.items()]
    for doc_id, members in by_document.items():
        title = members[0].title
        own_heading = any(passage.headings[:1] == (title,) for passage in members)
        if title and not own_heading and title != PurePosixPath(doc_id.split("#")[0]).stem:
            ids = tuple(passage.passage_id for passage in members)
            found.append(Candidate("title", title, ids[0], ids))
    sharing: dict[str, int] = defaultdict(int)
    for candidate in found:
        sharing[normal_form(candidate.text)] += 1
    for candidate in found:
        yield candidate, _fault_of_heading(candidate, sharing[normal_form(candidate.text)])


def _fault_of_heading(candidate: Candidate, n_sharing: int) -> str:
    form = normal_form(candidate.text)
    letters = " ".join(word for word in units(candidate.text) if not any(map(str.isdigit, word)))
    if n_words(letters) < 2:
        return "too short"
    if form in _GENERIC or not content_words(candidate.text):
        return "too generic"
    if n_sharing > 1:
        return "ambiguous: the same heading elsewhere"
    if len(candidate.relevant) > MAX_SECTION:
        return f"too broad: a section of more than {MAX_SECTION} passages"
    return ""


class BodyCandidates:
    """Sentences and key phrases of passages, the best of a passage first."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        texts = [passage.text for passage in passages]
        self.rarity = Rarity(texts)
        self._forms = [f" {normal_form(text)} " for text in texts]
        self._holding: dict[str, set[int]] = defaultdict(set)
        for index, form in enumerate(self._forms):
            for unit in form.split():
                self._holding[unit].add(index)

    def n_passages_with(self, text: str) -> int:
        """Number of passages whose text holds these words in a row."""
        form = normal_form(text)
        postings = sorted((self._holding.get(unit, set()) for unit in set(form.split())), key=len)
        if not postings:
            return 0
        return sum(f" {form} " in self._forms[index] for index in set.intersection(*postings))

    def sentences(self, passage: Passage) -> list[Candidate]:
        """Whole sentences (inverse cloze task, Lee et al. 2019), those that share most with the rest first."""
        scored = []
        held = Counter(content_words(passage.text))
        for start, end in _prose_sentences(passage.text):
            query = plain_inline(passage.text[start:end])
            if not _is_good_sentence(query):
                continue
            own = Counter(content_words(passage.text[start:end]))
            words = set(content_words(query))
            shared = sum(self.rarity(word) for word in words if held[word] > own[word]) / len(words)
            scored.append(
                (-shared, start, Candidate("sentence", query, passage.passage_id, (passage.passage_id,), (start, end)))
            )
        return [candidate for _, _, candidate in sorted(scored, key=lambda item: item[:2])]

    def phrases(self, passage: Passage) -> list[Candidate]:
        """Key phrases that do not stand in the headings."""
        header = f" {normal_form(' '.join((*passage.headings, passage.title)))} "
        prose = "\n".join(passage.text[start:end] for start, end in _prose_spans(passage.text))
        phrases = [p for p in key_phrases(prose, self.rarity) if f" {normal_form(p)} " not in header]
        return [Candidate("phrase", p, passage.passage_id, (passage.passage_id,)) for p in dict.fromkeys(phrases)]


def _prose_spans(text: str) -> list[tuple[int, int]]:
    """Paragraph lines outside of code and tables, without list marks and headings' ``#``."""
    covered = [match.span() for match in _FENCE.finditer(text)]
    spans = []
    for match in re.finditer(r"[^\n]+(?:\n(?![ \t]*(?:[-*+•|>#]|\d{1,3}[.)]|```|~~~|\n))[^\n]+)*", text):
        start, end = match.span()
        if (
            any(left < end and start < right for left, right in covered)
            or "```" in match.group()
            or "|" in match.group()
        ):
            continue
        mark = _MARK.match(text, start, end)
        spans.append((mark.end() if mark else start, end))
    return spans


def _prose_sentences(text: str) -> list[tuple[int, int]]:
    return [span for start, end in _prose_spans(text) for span in sentence_spans(text, start, end)]


def _is_good_sentence(query: str) -> bool:
    """Whether a sentence can stand alone as a query: complete, of a search's length, mostly words."""
    length = n_words(query)
    if not (6 if not is_han(query) else 5) <= length <= 32 or len(set(content_words(query))) < 4:
        return False
    if (
        query[-1] not in ".!?。！？"
        or _POINTING.match(query)
        or _PLACE.search(query)
        or "http" in query
        or not query[0].isalnum()
    ):
        return False
    return sum(character in "{}[]<>|=/\\_$@#*" for character in query) <= 0.04 * len(query)


def by_home(candidates: Sequence[Candidate]) -> Mapping[str, list[Candidate]]:
    """Candidates per home passage, those about the fewest passages first."""
    grouped: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in sorted(candidates, key=lambda c: (len(c.relevant), c.kind, c.text)):
        grouped[candidate.home].append(candidate)
    return grouped
