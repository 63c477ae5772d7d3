"""Taking a query's words out of the passages it came from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from bessemer.questions.candidates import Candidate
from bessemer.text import n_words, normal_form, unit_spans
from bessemer.types import Judged, Passage

MIN_WORDS_LEFT = 10
MAX_SHARE_WITHHELD = 0.5


def withhold(passage: Passage, candidate: Candidate) -> Passage | None:
    """The passage without the candidate's words, in its header as in its text, or None when too little is left.

    Every occurrence of the words in a row goes, whatever marks or case they have; a line that held nothing else goes
    as a whole.
    """
    form = normal_form(candidate.text)
    headings = tuple(heading for heading in passage.headings if normal_form(heading) != form)
    title = "" if normal_form(passage.title) == form else passage.title
    spans = [*passage.withheld, *_occurrences(passage.text, candidate.text)]
    if candidate.span and candidate.home == passage.passage_id:
        spans.append(candidate.span)
    reduced = replace(passage, headings=headings, title=title, withheld=_merged(spans))
    left = n_words(reduced.body)
    if left < MIN_WORDS_LEFT or left < (1 - MAX_SHARE_WITHHELD) * n_words(passage.text):
        return None
    if f" {form} " in f" {normal_form(reduced.indexed_text)} ":
        return None  # still there, as a part of a heading for instance
    return reduced


def extracted_from(judged: Judged, passages: Sequence[Passage]) -> set[str]:
    """The ids of queries with a relevant passage that something is withheld from: the whole one holds their words."""
    reduced = {passage.passage_id for passage in passages if passage.withheld}
    return {
        query.query_id
        for query in judged.queries
        if any(grade > 0 and p in reduced for p, grade in judged.qrels.get(query.query_id, {}).items())
    }


def _occurrences(text: str, query: str) -> list[tuple[int, int]]:
    """Spans of ``text`` that hold the words of ``query`` in a row."""
    words = normal_form(query).split()
    found = unit_spans(text)
    spans, position = [], 0
    while words and position + len(words) <= len(found):
        if all(found[position + offset][0] == word for offset, word in enumerate(words)):
            spans.append(_whole_line(text, found[position][1], found[position + len(words) - 1][2]))
            position += len(words)
        else:
            position += 1
    return spans


def _whole_line(text: str, start: int, end: int) -> tuple[int, int]:
    """The span, or its line where nothing but marks stands around it."""
    left = text.rfind("\n", 0, start) + 1
    right = text.find("\n", end)
    right = len(text) if right < 0 else right
    rest = text[left:start] + text[end:right]
    return (start, end) if re.search(r"[^\W_]", rest) else (left, right)


def _merged(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted spans without overlap."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
