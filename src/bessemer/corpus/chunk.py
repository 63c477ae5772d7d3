"""Documents to passages: along headings, then paragraphs, then sentences, by tokens of the target model."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bessemer.config import ChunkingConfig
from bessemer.corpus.outline import Part, joined, outline
from bessemer.corpus.pack import CountTokens as CountTokens
from bessemer.corpus.pack import Span, pack, shorten
from bessemer.types import Document, Dropped, Filtered, Passage

STAGE = "chunk"
SPECIAL_TOKENS = 2

_UNSAFE = r"[%\s\x00-\x1f\x7f]"


def to_passages(
    documents: Sequence[Document], count_tokens: CountTokens, config: ChunkingConfig, max_tokens: int
) -> Filtered[Passage]:
    """Cut documents into passages of at most ``max_tokens``, headings and two special tokens included.

    A passage never crosses a heading, unless a section is shorter than ``config.min_tokens``: that one is merged with
    its neighbour under the same parent where both fit into one passage, or else dropped. Paragraphs stay whole where
    they fit, then sentences and lines of code. Passages do not overlap and ``document.text[start:end] == text`` holds.

    ``passage_id`` is the document's id, ``#``, and a hash of headings and text: a change elsewhere, even in the same
    document, leaves it as it is. Its metadata is the document's, with the name of the file as ``source``.
    ``count_tokens`` is called with long lists; equal text may be counted twice.
    """
    dropped: list[Dropped] = []
    sections = _count([part for document in documents for part in outline(document)], count_tokens)
    headers = _fit_headers(sections, count_tokens, max_tokens)
    parts = _merge_small(sections, headers, config.min_tokens, max_tokens, dropped)
    spans = _pack_all(parts, headers, count_tokens, config.min_tokens, max_tokens)
    passages = _passages(parts, headers, spans, dropped)
    return Filtered(passages, (*dropped, *_empty_headings(sections, passages)))


def _count(parts: list[Part], count_tokens: CountTokens) -> list[Part]:
    """Set the tokens of all atoms, headings included, in one call."""
    atoms = [(part, atom) for part in parts for atom in (*part.atoms, *([part.heading] if part.heading else []))]
    counts = iter(count_tokens([part.document.text[atom.start : atom.end] for part, atom in atoms]))
    counted = []
    for part in parts:
        body = tuple(replace(atom, n_tokens=next(counts)) for atom in part.atoms)
        heading = replace(part.heading, n_tokens=next(counts)) if part.heading else None
        counted.append(replace(part, atoms=body, heading=heading))
    return counted


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands in front of a passage: headings, or else the title, with its length in tokens."""

    headings: tuple[str, ...]
    title: str
    n_tokens: int = 0

    @property
    def text(self) -> str:
        return " > ".join(self.headings) or self.title


Headers = dict[tuple[tuple[str, ...], str], _Header]
"""(path of headings, document title) -> the header that fits."""


def _fit_headers(parts: list[Part], count_tokens: CountTokens, max_tokens: int) -> Headers:
    """Headers of all paths and their prefixes; outer headings are left out where it would fill half of a passage."""
    pending: Headers = {}
    for part in parts:
        for depth in range(len(part.headings) + 1):
            key = part.headings[:depth], part.document.title
            pending[key] = _Header(*key)
    fitting: Headers = {}
    lengths = {"": 0}
    while pending:
        new = sorted({header.text for header in pending.values()} - lengths.keys())
        lengths.update(zip(new, count_tokens(new), strict=True))
        longer: Headers = {}
        for key, header in pending.items():
            n_tokens = lengths[header.text]
            if n_tokens <= max_tokens // 2:
                fitting[key] = replace(header, n_tokens=n_tokens)
            else:
                longer[key] = _Header(header.headings[1:], header.title if len(header.headings) > 1 else "")
        pending = longer
    return fitting


def _header(part: Part, headers: Headers) -> _Header:
    return headers[part.headings, part.document.title]


def _merge_small(
    parts: list[Part], headers: Headers, min_tokens: int, max_tokens: int, dropped: list[Dropped]
) -> list[Part]:
    """Join parts below ``min_tokens`` with the neighbour before, or else behind; drop those that fit to neither."""
    merged: list[Part] = []
    waiting: Part | None = None  # a small part that the next one may take up
    behind_gap = False  # nothing is joined over what was dropped: it would stand in the passage
    for part in parts:
        if not part.atoms:
            continue
        if waiting is not None:
            whole = _fitting(waiting, part, headers, max_tokens)
            if whole is None:
                dropped.append(_too_short(waiting))
                behind_gap = True
            part, waiting = whole or part, None
        if part.n_tokens >= min_tokens:
            merged.append(part)
            behind_gap = False
            continue
        whole = _fitting(merged[-1], part, headers, max_tokens) if merged and not behind_gap else None
        if whole is not None:
            merged[-1] = whole
        else:
            waiting = part
    if waiting is not None:
        dropped.append(_too_short(waiting))
    return merged


def _fitting(left: Part, right: Part, headers: Headers, max_tokens: int) -> Part | None:
    """Both as one part, if they stand under the same parent and fit into one passage."""
    related = right.headings[:-1] in (left.headings, left.headings[:-1])
    if left.document is not right.document or not related:
        return None
    whole = joined(left, right)
    fits = whole.n_tokens + len(whole.atoms) + _header(whole, headers).n_tokens + SPECIAL_TOKENS <= max_tokens
    return whole if fits else None


def _too_short(part: Part) -> Dropped:
    text = part.document.text[part.atoms[0].start : part.atoms[-1].end]
    where = f"{part.document.doc_id}@{part.atoms[0].start}"
    return Dropped(where, STAGE, "shorter than min_tokens, no neighbour to merge with", text, float(part.n_tokens))


def _pack_all(
    parts: list[Part], headers: Headers, count_tokens: CountTokens, min_tokens: int, max_tokens: int
) -> list[list[Span]]:
    """The passages' spans of every part, checked against the tokenizer and packed more tightly where they overflow.

    A sum of the atoms' tokens is only nearly the length of the whole: line breaks may be tokens, too.
    """
    budgets = [max_tokens - SPECIAL_TOKENS - _header(part, headers).n_tokens for part in parts]
    spans: list[list[Span]] = [[] for _ in parts]
    pending = [index for index in range(len(parts)) if parts[index].atoms]
    while pending:
        atoms = shorten([(parts[index], budgets[index]) for index in pending], count_tokens)
        for index, whole in zip(pending, atoms, strict=True):
            spans[index] = pack(whole, budgets[index], min_tokens)
        where = [(index, span) for index in pending for span in spans[index]]
        texts = []
        for index, (start, end) in where:
            header, text = _header(parts[index], headers).text, parts[index].document.text[start:end]
            texts.append(f"{header}\n{text}" if header else text)
        excess: dict[int, int] = {}
        for (index, _), n_tokens in zip(where, count_tokens(texts), strict=True):
            over = n_tokens + SPECIAL_TOKENS - max_tokens
            if over > 0 and budgets[index] > 1:
                excess[index] = max(over, excess.get(index, 0))
        for index, over in excess.items():
            budgets[index] = max(1, budgets[index] - over)
        pending = sorted(excess)
    return spans


def _passages(
    parts: list[Part], headers: Headers, spans: list[list[Span]], dropped: list[Dropped]
) -> tuple[Passage, ...]:
    passages: list[Passage] = []
    seen: dict[str, int] = {}
    for part, part_spans in zip(parts, spans, strict=True):
        document, header = part.document, _header(part, headers)
        metadata = {**document.metadata, **({"source": Path(document.source).name} if document.source else {})}
        if part_spans and (header.headings, header.title) != (part.headings, document.title):
            where = f"{document.doc_id}@{part_spans[0][0]}"
            lost = " > ".join(part.headings) or document.title
            dropped.append(Dropped(where, STAGE, "outer headings left out: longer than half a passage", lost))
        for start, end in part_spans:
            text = document.text[start:end]
            base = passage_id(document.doc_id, header.headings, text)
            seen[base] = seen.get(base, 0) + 1
            identity = base if seen[base] == 1 else f"{base}-{seen[base]}"
            passages.append(
                Passage(identity, document.doc_id, text, header.title, start, end, header.headings, (), metadata)
            )
    return tuple(passages)


def _empty_headings(sections: Sequence[Part], passages: Sequence[Passage]) -> list[Dropped]:
    """Headings without text: lost, unless they stand in a passage or lead to deeper ones, whose path holds them."""
    spans: dict[str, list[Span]] = defaultdict(list)
    for passage in passages:
        spans[passage.doc_id].append((passage.start, passage.end))
    dropped = []
    for part, following in itertools.zip_longest(sections, sections[1:]):
        leads_on = (
            following is not None
            and following.document is part.document
            and following.headings[: len(part.headings)] == part.headings
        )
        if part.atoms or not part.heading or leads_on:
            continue
        place = part.heading.start
        before = bisect.bisect(spans[part.document.doc_id], (place, place))
        if before == 0 or spans[part.document.doc_id][before - 1][1] <= place:
            where = f"{part.document.doc_id}@{place}"
            dropped.append(Dropped(where, STAGE, "heading without text", part.headings[-1]))
    return dropped


def passage_id(doc_id: str, headings: Sequence[str], text: str) -> str:
    """``doc_id#hash``; white space, ``%`` and control characters of the id are percent-encoded, as run files need."""
    digest = hashlib.sha256("\n".join((*headings, text)).encode("utf-8")).hexdigest()[:12]
    return f"{re.sub(_UNSAFE, _quote, doc_id)}#{digest}"


def _quote(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8"))
