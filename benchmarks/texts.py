"""Texts of real words without a data set: docstrings of the installed libraries."""

from __future__ import annotations

WORDS_PER_TEXT = 62
"""Of docstrings, which minilm's tokenizer cuts finely: about 150 tokens."""


def docstring_texts(n_texts: int) -> list[str]:
    """Texts of WORDS_PER_TEXT words; fewer, if the libraries have no more."""
    from bessemer.corpus.docstrings import docstring_pairs

    words = " ".join(pair.passage.text for pair in docstring_pairs().kept).split()
    starts = range(0, min(len(words), n_texts * WORDS_PER_TEXT), WORDS_PER_TEXT)
    return [" ".join(words[start : start + WORDS_PER_TEXT]) for start in starts]
