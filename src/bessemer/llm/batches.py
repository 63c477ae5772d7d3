"""Which texts go through a language model together, and what of them goes through it once. Standard library only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LEAST_PREFIX = 16
"""Shorter prefixes are not worth a pass of their own."""
CACHE_ROOM = 8
"""Keys and values of a batch may be those of so many times the tokens that it runs."""


class Tokens(NamedTuple):
    """A text's token ids; the answer begins at ``ids[answer_from]``, which is never the first."""

    ids: tuple[int, ...]
    answer_from: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that run together after ``n_prefix`` tokens that they share; ``tokens`` are what follows those."""

    places: tuple[int, ...]
    tokens: tuple[Tokens, ...]
    n_prefix: int


def plan(
    tokens: Mapping[int, Tokens], passages: Mapping[int, Hashable], max_tokens: int, least_sharing: int
) -> Iterator[tuple[tuple[int, ...], list[Batch]]]:
    """(prefix, batches after it) for every passage that ``least_sharing`` texts share, and before them (no prefix,
    batches of similar length) for all other texts. Both mappings are by place.

    A batch has at most ``max_tokens`` padded tokens, unless a single text has more.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place in tokens:
        groups[passages[place]].append(place)
    alone: list[int] = []
    sharing: list[tuple[tuple[int, ...], list[int]]] = []
    for group in groups.values():
        prefix = _shared([tokens[place] for place in group]) if len(group) >= least_sharing else ()
        if len(prefix) >= LEAST_PREFIX:
            sharing.append((prefix, group))
        else:
            alone += group
    if alone:
        yield (), list(_batches(alone, tokens, 0, max_tokens))
    for prefix, group in sharing:
        yield prefix, list(_batches(group, tokens, len(prefix), max_tokens))


def _shared(texts: Sequence[Tokens]) -> tuple[int, ...]:
    """The ids that all texts begin with. The token before an answer is left to the text: it predicts the answer."""
    room = min(text.answer_from for text in texts) - 1
    least, greatest = min(text.ids for text in texts), max(text.ids for text in texts)  # they differ first, if any do
    n = next((i for i in range(room) if least[i] != greatest[i]), room)
    return least[:n]


def _batches(places: Sequence[int], tokens: Mapping[int, Tokens], n_prefix: int, max_tokens: int) -> Iterator[Batch]:
    """The longest first."""
    order = sorted(places, key=lambda place: -len(tokens[place].ids))
    start = 0
    while start < len(order):
        whole = len(tokens[order[start]].ids)
        size = max(1, min(max_tokens // (whole - n_prefix), CACHE_ROOM * max_tokens // whole))
        part = tuple(order[start : start + size])
        after = tuple(Tokens(tokens[p].ids[n_prefix:], tokens[p].answer_from - n_prefix) for p in part)
        yield Batch(part, after, n_prefix)
        start += size
