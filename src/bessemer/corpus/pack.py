"""Sentences to spans of a bounded number of tokens."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

from bessemer.corpus.outline import Atom, Part
from bessemer.text import trim

CountTokens = Callable[[Sequence[str]], list[int]]
"""Texts -> their lengths in tokens, without special tokens."""

Span = tuple[int, int]


def shorten(parts: Sequence[tuple[Part, int]], count_tokens: CountTokens) -> list[list[Atom]]:
    """The atoms of each part, those over its budget cut at white space, or else between characters."""
    results: list[list[Atom]] = [list(part.atoms) for part, _ in parts]
    while True:
        pieces: list[tuple[int, str, Atom]] = []  # (part, text, piece) of everything that is cut in this round
        for index, (part, budget) in enumerate(parts):
            cut = []
            for atom in results[index]:
                halves = _cut(part.document.text, atom, budget)
                cut += halves
                pieces += [(index, part.document.text[a.start : a.end], a) for a in halves if a.n_tokens < 0]
            results[index] = cut
        if not pieces:
            return results
        counts = iter(count_tokens([text for _, text, _ in pieces]))
        for index in range(len(parts)):
            results[index] = [replace(a, n_tokens=next(counts)) if a.n_tokens < 0 else a for a in results[index]]


def _cut(text: str, atom: Atom, budget: int) -> list[Atom]:
    """The atom itself if it fits, else about equal pieces whose tokens are yet to be counted (-1)."""
    length = atom.end - atom.start
    if atom.n_tokens <= budget or length < 2:
        return [atom]
    n_pieces = min(length, math.ceil(1.1 * atom.n_tokens / budget))
    cuts = [atom.start]
    for number in range(1, n_pieces):
        wish = atom.start + number * length // n_pieces
        cuts.append(_cut_point(text, max(wish, cuts[-1] + 1), cuts[-1], atom.end, max(1, length // (4 * n_pieces))))
    cuts.append(atom.end)
    spans = [trim(text, left, right) for left, right in itertools.pairwise(cuts)]
    return [Atom(start, end, atom.block, -1) for start, end in spans if start < end]


def _cut_point(text: str, wish: int, low: int, high: int, reach: int) -> int:
    """A place near ``wish``, behind white space if there is some within ``reach``, never before a combining mark."""
    for distance in range(reach):
        for place in (wish - distance, wish + distance):
            if low < place < high and text[place - 1].isspace():
                return place
    while low < wish < high and (unicodedata.combining(text[wish]) or text[wish] in "\u200d\ufe0f"):
        wish += 1
    return min(wish, high)


def pack(atoms: Sequence[Atom], budget: int, min_tokens: int) -> list[Span]:
    """Spans of at most ``budget`` tokens where single atoms allow it; paragraphs stay whole where they fit."""
    groups: list[list[Atom]] = []
    size = 0
    for block in _by_block(atoms):
        total = sum(atom.n_tokens for atom in block)
        if groups and size + total <= budget:
            groups[-1] += block
            size += total
            continue
        size = budget + 1  # a paragraph that does not fit begins a new passage, even when it fills several
        for atom in block:
            if size + atom.n_tokens > budget:
                groups.append([])
                size = 0
            groups[-1].append(atom)
            size += atom.n_tokens
    _fill_tail(groups, budget, min_tokens)
    return [(group[0].start, group[-1].end) for group in groups]


def _by_block(atoms: Sequence[Atom]) -> list[list[Atom]]:
    return [list(block) for _, block in itertools.groupby(atoms, key=lambda atom: atom.block)]


def _fill_tail(groups: list[list[Atom]], budget: int, min_tokens: int) -> None:
    """Hand atoms from the last but one passage to a last one that is too short to stand alone."""
    if len(groups) < 2:
        return
    left, tail = groups[-2], groups[-1]
    size = sum(atom.n_tokens for atom in tail)
    spare = sum(atom.n_tokens for atom in left)
    while size < min_tokens and len(left) > 1:
        n_tokens = left[-1].n_tokens
        if size + n_tokens > budget or spare - n_tokens < min_tokens:
            return
        tail.insert(0, left.pop())
        size, spare = size + n_tokens, spare - n_tokens
