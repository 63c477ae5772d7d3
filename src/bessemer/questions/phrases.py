"""Key phrases: runs of content words, after RAKE (Rose et al. 2010), weighted by how rare their words are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from bessemer.questions.words import STOP_WORDS
from bessemer.text import HAN, is_han, units

_TOKEN = re.compile(rf"[{HAN}]+|[^\W{HAN}]+(?:['’\-][^\W{HAN}]+)*")


def content_words(text: str) -> list[str]:
    """Case-folded words that carry meaning: stop words, numbers and single letters left out."""
    return [word.casefold() for start, end in word_spans(text) if is_content(word := text[start:end])]


def is_content(word: str) -> bool:
    folded = word.casefold().replace("’", "'")
    return folded not in STOP_WORDS and len(word) > 1 and any(character.isalpha() for character in word)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Words as half-open spans; runs of Chinese characters are segmented by jieba (rjieba)."""
    spans = []
    for match in _TOKEN.finditer(text):
        if re.match(f"[{HAN}]", match.group()):
            import rjieba

            position = match.start()
            for word in rjieba.cut(match.group()):
                spans.append((position, position + len(word)))
                position += len(word)
        else:
            spans.append(match.span())
    return spans


class Rarity:
    """Inverse document frequency of words over the passages."""

    def __init__(self, texts: Iterable[str]) -> None:
        frequency: Counter[str] = Counter()
        self.n_texts = 0
        for text in texts:
            frequency.update(set(content_words(text)))
            self.n_texts += 1
        self.frequency: Mapping[str, int] = frequency

    def __call__(self, word: str) -> float:
        df = self.frequency.get(word, 0)
        return math.log(1 + (self.n_texts - df + 0.5) / (df + 0.5))


def key_phrases(text: str, rarity: Rarity) -> list[str]:
    """Phrases of 3-5 content words in a row (Chinese: 2-5 words of together 6 characters), the most telling first.

    The score is the mean rarity of the words times how often they come in the text, so that a phrase the passage is
    about beats a name that it only mentions.
    """
    counts = Counter(content_words(text))
    scores: dict[str, float] = {}
    for phrase in _runs(text):
        words = content_words(phrase)
        scores[phrase] = sum(rarity(word) * (1 + math.log(counts[word])) for word in words) / len(words)
    return sorted(scores, key=lambda phrase: (-scores[phrase], phrase))


def _runs(text: str) -> list[str]:
    phrases = []
    run: list[tuple[int, int]] = []
    for start, end in [*word_spans(text), (len(text), len(text))]:
        glued = run and re.fullmatch(r"[ \t]?", text[run[-1][1] : start]) is not None
        if start < end and is_content(text[start:end]) and (glued or not run):
            run.append((start, end))
            continue
        phrases += _phrase(text, run)
        run = [(start, end)] if start < end and is_content(text[start:end]) else []
    return phrases


def _phrase(text: str, run: Sequence[tuple[int, int]]) -> list[str]:
    if not 2 <= len(run) <= 5:
        return []
    phrase = text[run[0][0] : run[-1][1]]
    return [phrase] if len(units(phrase)) >= (6 if is_han(phrase) else 3) else []
