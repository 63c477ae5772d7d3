"""Texts of real words without a data set: docstrings of the installed libraries."""

from __future__ import annotations

WORDS_PER_TEXT = 62
"""Of docstrings, which minilm's tokenizer cuts finely: about 150 tokens."""


def docstring_texts(n_texts: int) -> list[str]:
    """Texts of WORDS_PER_TEXT words, which overlap where the libraries have too few."""
    from bessemer.corpus.docstrings import docstring_pairs

    words = " ".join(pair.passage.text for pair in docstring_pairs().kept).split()
    step = min(WORDS_PER_TEXT, max(1, (len(words) - WORDS_PER_TEXT) // n_texts))
    return [" ".join(words[i * step : i * step + WORDS_PER_TEXT]) for i in range(n_texts)]
