"""What a language model is asked as a teacher: how likely an answer is after a passage and a question.

Log r = mean over the tokens of the answer of log P(token | all text before it): the reward of LLM-Embedder (arXiv
2310.07554) and REPLUG (2301.12652), per token so that long answers do not count for less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Completion:
    """One text in four parts, ``head + passage + question + answer``; the head and the question are the template's.

    The text is tokenised whole, as a server would do it. The answer begins with the token that holds its first
    character that is no white space: tokens may span both sides of a seam, and so every model and endpoint means the
    same tokens.
    """

    head: str
    passage: str
    question: str
    answer: str

    @property
    def text(self) -> str:
        return self.head + self.passage + self.question + self.answer

    @property
    def answer_start(self) -> int:
        """Of the first character of the answer that is no white space, in ``text``."""
        return len(self.text) - len(self.answer.lstrip())


class Likelihood(NamedTuple):
    """``mean`` is the mean log-probability of the answer's tokens, NaN where ``fault`` says why there is none.

    ``is_cut``: the passage was shortened so that the model could read the text.
    """

    mean: float
    n_tokens: int = 0
    is_cut: bool = False
    fault: str = ""


def no_likelihood(fault: str) -> Likelihood:
    return Likelihood(math.nan, fault=fault)


EMPTY_ANSWER = "the answer is empty"


class LikelihoodModel(Protocol):
    """A causal language model, here or behind an endpoint."""

    @property
    def identity(self) -> str:
        """The same only for models that give the same likelihoods."""

    def log_likelihoods(self, completions: Sequence[Completion]) -> Iterator[tuple[int, Likelihood]]:
        """(place among ``completions``, likelihood), in whatever order they are computed."""
