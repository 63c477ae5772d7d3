"""Questions that ask the same: by the Jaccard similarity of their words."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from bessemer.text import normal_form

NEAR_DUPLICATE = 0.8
"""Jaccard similarity of the words of two questions."""


class Asked:
    """Texts, to be asked for the one that is most alike. Exact from NEAR_DUPLICATE on, by prefix filtering (Chaudhuri
    et al. 2006): two sets that are so alike share one of the few rarest words of each.

    ``texts``: all that will be added or asked about; their words are counted.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._frequency = Counter(word for text in texts for word in _words(text))
        self._with: dict[str, list[frozenset[str]]] = defaultdict(list)

    def add(self, text: str) -> None:
        words = _words(text)
        for word in self._rarest(words):
            self._with[word].append(words)

    def most_alike(self, text: str) -> float:
        """The similarity of the added text that is most like ``text``; below NEAR_DUPLICATE perhaps of another one, 0
        where no rare word is shared."""
        words = _words(text)
        others = {other for word in self._rarest(words) for other in self._with[word]}
        return max((len(words & other) / len(words | other) for other in others), default=0.0)

    def _rarest(self, words: frozenset[str]) -> list[str]:
        n = len(words) - math.ceil(NEAR_DUPLICATE * len(words)) + 1
        return sorted(words, key=lambda word: (self._frequency[word], word))[:n]


def near_duplicates(texts: Sequence[str]) -> dict[int, float]:
    """index -> similarity to an earlier one that is kept."""
    kept, found = Asked(texts), dict[int, float]()
    for i, text in enumerate(texts):
        similarity = kept.most_alike(text)
        if similarity >= NEAR_DUPLICATE:
            found[i] = similarity
        else:
            kept.add(text)
    return found


def repeated(texts: Sequence[str], others: Sequence[str]) -> dict[int, float]:
    """index -> similarity to one of ``others``."""
    asked = Asked((*texts, *others))
    for other in others:
        asked.add(other)
    alike = {i: asked.most_alike(text) for i, text in enumerate(texts)}
    return {i: similarity for i, similarity in alike.items() if similarity >= NEAR_DUPLICATE}


def _words(text: str) -> frozenset[str]:
    return frozenset(normal_form(text).split())
