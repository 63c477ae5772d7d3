"""The tokens of a prompt with their log-probabilities as endpoints return them, and which of them are the answer.

Servers cut the text themselves, and some show tokens without the white space before them, some put a special token in
front, some show a character that is split over tokens as replacement characters. So tokens are held against the text
by the characters that can be seen; what does not spell it is a fault, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bessemer.llm.likelihood import Completion, Likelihood, no_likelihood

SPLIT = "\N{REPLACEMENT CHARACTER}"
"""How a part of a character's bytes is shown."""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Of the prompt alone: texts, and log P of each after those before it, None where there is none (of the first).

    ``ends`` are the places in the prompt behind each token, where the server tells them.
    """

    texts: tuple[str, ...]
    log_probabilities: tuple[float | None, ...]
    ends: tuple[int, ...] | None = None


def read_echo(reply: Mapping[str, Any]) -> PromptTokens | None:
    """The reply to ``echo`` with ``logprobs`` (OpenAI's form); None when the prompt is not in it."""
    try:
        told = reply["choices"][0]["logprobs"]
        texts, log_probabilities = list(told["tokens"]), list(told["token_logprobs"])
        n = len(texts) - _n_generated(reply)
    except (KeyError, IndexError, TypeError):
        return None
    if n < 1 or len(log_probabilities) != len(texts) or not all(isinstance(text, str) for text in texts):
        return None
    offsets = told.get("text_offset")
    is_whole = isinstance(offsets, list) and len(offsets) == len(texts) > n  # the next token's begin is the last's end
    return PromptTokens(tuple(texts[:n]), tuple(log_probabilities[:n]), tuple(offsets[1 : n + 1]) if is_whole else None)


def _n_generated(reply: Mapping[str, Any]) -> int:
    """Tokens behind the prompt: one is asked for, but a server may end before it."""
    usage = reply.get("usage")
    n = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return n if isinstance(n, int) else 1


def read_prompt_logprobs(reply: Mapping[str, Any]) -> PromptTokens | None:
    """The reply to vLLM's ``prompt_logprobs``; None when it is not in it."""
    try:
        found = [_prompt_token(entry) for entry in reply["choices"][0]["prompt_logprobs"]]
    except (KeyError, IndexError, TypeError, StopIteration):
        return None
    return PromptTokens(tuple(text for text, _ in found), tuple(value for _, value in found)) if found else None


def _prompt_token(entry: Mapping[str, Any] | None) -> tuple[str, float | None]:
    """The prompt's own token is the first of an entry; the first token of the prompt has none."""
    if entry is None:
        return "", None
    token = next(iter(entry.values()))
    return str(token.get("decoded_token") or ""), token["logprob"]


def answer_likelihood(tokens: PromptTokens, completion: Completion) -> Likelihood:
    """The mean over the tokens from the one that holds the answer's first visible character."""
    first = _answer_from(tokens, completion)
    if first is None:
        return no_likelihood("the endpoint's tokens do not spell the text, so that the answer's cannot be told")
    values = tokens.log_probabilities[first:]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return no_likelihood("the endpoint gives no log-probability of a token of the answer")
    return Likelihood(math.fsum(value for value in values if value is not None) / len(values), len(values))


def _answer_from(tokens: PromptTokens, completion: Completion) -> int | None:
    """The place of the first token that holds a part of the answer's first character; None where that is not sure."""
    n_before = len(_visible(completion.text)) - len(_visible(completion.answer))
    spans = _spans(tokens.texts, _visible(completion.text))
    first = next((place for place, found in enumerate(spans) if any(p <= n_before < q for p, q in found)), None)
    if first and SPLIT in tokens.texts[first - 1]:  # of which character its bytes are cannot be told
        first = None
    if first is None and tokens.ends is not None:
        first = _by_ends(tokens.ends, completion)
    while first is not None and first > 1 and tokens.texts[first - 1] == "":
        first -= 1  # the first bytes of a character that the next token shows whole
    return first


def _visible(text: str) -> str:
    return "".join(text.split())


def _spans(tokens: Sequence[str], text: str) -> list[set[tuple[int, int]]]:
    """Where in ``text`` each token may stand, as half-open spans, so that all together spell it; several where
    characters are split over tokens, none where nothing fits."""
    spans: list[set[tuple[int, int]]] = []
    begins = {0}
    for place, token in enumerate(tokens):
        found = {(begin, end) for begin in begins for end in _ends(_visible(token), text, begin)}
        if not found and place == 0:
            found = {(0, 0)}  # a special token
        spans.append(found)
        begins = {end for _, end in found}
    wanted = {len(text)}
    for place in reversed(range(len(spans))):
        spans[place] = {(begin, end) for begin, end in spans[place] if end in wanted}
        wanted = {begin for begin, _ in spans[place]}
    return spans


def _ends(token: str, text: str, begin: int) -> set[int]:
    """Where ``token`` may end. A replacement character ends a character of several bytes, or stops within it."""
    ends = {begin}
    for character in token:
        if character == SPLIT:
            ends |= {end + 1 for end in ends if not text[end : end + 1].isascii()}
        else:
            ends = {end + 1 for end in ends if text[end : end + 1] == character}
    return ends


def _by_ends(ends: Sequence[int], completion: Completion) -> int | None:
    """By the server's own count of characters, if it comes out at the end of the text."""
    if ends[-1] != len(completion.text) or list(ends) != sorted(ends):
        return None
    return next(place for place, end in enumerate(ends) if end > completion.answer_start)
