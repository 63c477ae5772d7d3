"""The outline of a document: its sections, cut into the smallest pieces that are not split without need."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bessemer.corpus.markdown import find_sections, scan_lines
from bessemer.text import sentence_spans, trim
from bessemer.types import Document

PLAIN_FORMATS = ("pdf", "txt")
"""Formats whose text has no Markdown in it: a line that begins with ``#`` is just a line there."""

_ITEM = re.compile(r"[ \t]*(?:[-*+•●▪◦☐☑☒|>]|\(?\d{1,3}[.)、]|[（(]?[一二三四五六七八九十]{1,3}[)）、])")


@dataclass(frozen=True, slots=True)
class Atom:
    """``document.text[start:end]``: a sentence, a list item or a line of code. ``block`` numbers its paragraph."""

    start: int
    end: int
    block: int
    n_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A section, or several small ones in a row, that is packed into passages of its own."""

    document: Document
    headings: tuple[str, ...]
    atoms: tuple[Atom, ...]
    heading: Atom | None = None  # the heading line in front of the atoms, while it is not part of the text

    @property
    def n_tokens(self) -> int:
        return sum(atom.n_tokens for atom in self.atoms)


def outline(document: Document) -> list[Part]:
    """The sections of a document. Their atoms and headings together hold everything that is not white space."""
    plain = document.metadata.get("format") in PLAIN_FORMATS
    text = document.text
    if plain:
        atoms = [atom for i, (s, e) in enumerate(_paragraphs(text)) for atom in _lines(document, s, e, i)]
        return [Part(document, (), tuple(atoms))]
    blocks = _markdown_blocks(text)
    parts, position = [], 0
    for section in find_sections(text):
        atoms = []
        while position < len(blocks) and blocks[position][0] < section.end:
            start, end, fenced = blocks[position]
            start, end = max(start, section.start), min(end, section.end)
            if start < end:
                atoms += _fence(text, start, end, position) if fenced else _prose(text, start, end, position)
            if blocks[position][1] > section.end:  # a paragraph that an underlined heading cuts in two
                break
            position += 1
        heading = None
        if section.start > section.heading_start:
            heading = Atom(*trim(text, section.heading_start, section.start), -1 - position)
        parts.append(Part(document, section.headings, tuple(atoms), heading))
    return parts


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    lines = re.finditer(r"[^\n]*\n|[^\n]+", text)
    for blank, group in itertools.groupby(lines, key=lambda line: not line.group().strip()):
        if not blank:
            spans = [line.span() for line in group]
            yield spans[0][0], spans[-1][1]


def _markdown_blocks(text: str) -> list[tuple[int, int, bool]]:
    """(start, end, fenced) of every paragraph and every code fence."""
    blocks: list[tuple[int, int, bool]] = []
    open_block: tuple[int, int, bool] | None = None
    for line in scan_lines(text):
        blank = not line.fenced and not text[line.start : line.end].strip()
        if open_block and (blank or open_block[2] != line.fenced):
            blocks.append(open_block)
            open_block = None
        if not blank:
            open_block = (open_block[0] if open_block else line.start, line.end, line.fenced)
    if open_block:
        blocks.append(open_block)
    return blocks


def _fence(text: str, start: int, end: int, block: int) -> list[Atom]:
    """One atom per line of code."""
    lines = (match for match in re.finditer(r"[^\n]+", text[start:end]) if match.group().strip())
    return [Atom(*trim(text, start + line.start(), start + line.end()), block) for line in lines]


def _prose(text: str, start: int, end: int, block: int) -> list[Atom]:
    """Sentences; list items and table rows begin a new one."""
    line_starts = (start + match.end() for match in re.finditer(r"\n", text[start:end]))
    cuts = [start, *(line_start for line_start in line_starts if _ITEM.match(text, line_start, end)), end]
    return [Atom(s, e, block) for left, right in itertools.pairwise(cuts) for s, e in sentence_spans(text, left, right)]


def _lines(document: Document, start: int, end: int, block: int) -> list[Atom]:
    """Plain text: in a PDF every line break that is left means something, elsewhere lines may be wrapped."""
    text = document.text
    if document.metadata.get("format") != "pdf":
        return _prose(text, start, end, block)
    atoms = []
    for match in re.finditer(r"[^\n]+", text[start:end]):
        spans = sentence_spans(text, start + match.start(), start + match.end())
        atoms += [Atom(s, e, block) for s, e in spans]
    return atoms


def joined(left: Part, right: Part) -> Part:
    """Two neighbouring parts as one. Heading lines that their common path does not hold become part of the text."""
    depth = 0
    for a, b in zip(left.headings, right.headings, strict=False):
        if a != b:
            break
        depth += 1
    headings = left.headings[:depth]
    inner = [left.heading] if left.heading and len(left.headings) > depth else []
    outer = [right.heading] if right.heading else []
    keep = left.heading if not inner else None
    return replace(left, headings=headings, atoms=(*inner, *left.atoms, *outer, *right.atoms), heading=keep)
