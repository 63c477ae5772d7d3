from __future__ import annotations

import math
from typing import Any

import pytest

from bessemer.llm.likelihood import Completion, Likelihood
from bessemer.llm.prompt_tokens import PromptTokens, answer_likelihood, read_echo, read_prompt_logprobs

TEXT = Completion("Knowledge: ", "iron 钢", "\n\nAnswer: ", "钢 steel")


def found(texts: list[str], ends: list[int] | None = None, text: Completion = TEXT) -> Likelihood:
    """With -1, -2, -4, ... as the log-probabilities of the last, the last but one, ... token."""
    values = [None, *(-(2.0 ** (len(texts) - 1 - i)) for i in range(1, len(texts)))]
    return answer_likelihood(PromptTokens(tuple(texts), tuple(values), None if ends is None else tuple(ends)), text)


@pytest.mark.parametrize(
    "texts",
    [
        ["Knowledge", ":", " iron", " 钢", "\n\n", "Answer", ":", " 钢", " steel"],
        ["<s>", "Knowledge", ":", "iron", "钢", "\n", "\n", "Answer:", "钢", "steel"],  # without the spaces
        ["", "Knowledge:", " iron", " \ufffd", "\ufffd", "\n\nAnswer", ":", " 钢", " steel"],  # a split passage
        ["Knowledge:", " iron 钢", "\n\nAnswer", ":钢", " steel"],  # one token on both sides of the seam
    ],
)
def test_the_answer_s_tokens_are_the_last_two(texts: list[str]) -> None:
    assert found(texts) == Likelihood(-1.5, 2)


def test_a_character_over_several_tokens_counts_with_all_of_them() -> None:
    before = ["Knowledge:", " iron 钢", "\n\nAnswer:", " "]
    assert found([*before, "\ufffd", "\ufffd", " steel"]) == Likelihood(-7 / 3, 3)
    assert found([*before, "", "", "钢", " steel"]) == Likelihood(-15 / 4, 4)
    split = ["Knowledge:", " iron", " \ufffd", "\ufffd", "\n\nAnswer:", " ", "\ufffd", "\ufffd", " steel"]
    assert found(split) == Likelihood(-7 / 3, 3)


def test_split_characters_on_both_sides_of_the_seam_cannot_be_told_apart() -> None:
    text = Completion("", "iron", " 转", "炉 steel")
    split = ["iron", " \ufffd", "\ufffd", "\ufffd", "\ufffd", " steel"]
    assert found(split, text=text).fault.startswith("the endpoint's tokens do not spell the text")
    assert found(["iron", " 转", "\ufffd", "\ufffd", " steel"], text=text) == Likelihood(-7 / 3, 3)


def test_offsets_serve_where_nothing_is_spelled_and_they_come_out_right() -> None:
    raw = ["ĠKnowledge:", "▁iron", "<0xE9>", "ĊĊAnswer:", "▁钢", "▁steel"]
    ends = [10, 15, 17, 26, 28, 34]
    assert found(raw, ends) == Likelihood(-1.5, 2)
    for wrong in (None, [*ends[:-1], 33], [10, 15, 30, 26, 28, 34]):
        likelihood = found(raw, wrong)
        assert math.isnan(likelihood.mean)
        assert likelihood.fault.startswith("the endpoint's tokens do not spell the text")


@pytest.mark.parametrize("value", [None, "x", -math.inf, math.nan])
def test_a_missing_log_probability_is_a_fault(value: Any) -> None:
    likelihood = answer_likelihood(PromptTokens(("a", " b"), (None, value)), Completion("", "a", " ", "b"))
    assert likelihood.fault == "the endpoint gives no log-probability of a token of the answer"


def test_an_echo_holds_the_generated_token_unless_the_server_says_otherwise() -> None:
    told = {"tokens": ["a", " b", "c"], "token_logprobs": [None, -1, -2], "text_offset": [0, 1, 3]}
    reply: dict[str, Any] = {"choices": [{"logprobs": told}]}
    assert read_echo(reply) == PromptTokens(("a", " b"), (None, -1), (1, 3))
    assert read_echo({**reply, "usage": {"completion_tokens": 0}}) == PromptTokens(("a", " b", "c"), (None, -1, -2))


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"choices": []},
        {"choices": [{"logprobs": None}]},
        {"choices": [{"logprobs": {"tokens": ["x"], "token_logprobs": [-1]}}]},  # the generated token alone
        {"choices": [{"logprobs": {"tokens": ["x", "y"], "token_logprobs": [-1]}}]},
        {"choices": [{"prompt_logprobs": None}]},
        {"choices": [{"prompt_logprobs": []}]},
        {"choices": [{"prompt_logprobs": [None, {}]}]},
    ],
)
def test_replies_without_the_prompt_are_none(reply: dict[str, Any]) -> None:
    assert read_echo(reply) is None
    assert read_prompt_logprobs(reply) is None


def test_vllm_puts_the_prompt_s_own_token_first() -> None:
    entry = {"17": {"logprob": -5.0, "rank": 9, "decoded_token": " b"}, "3": {"logprob": -0.1, "decoded_token": " x"}}
    reply = {"choices": [{"prompt_logprobs": [None, entry]}]}
    assert read_prompt_logprobs(reply) == PromptTokens(("", " b"), (None, -5.0))
