"""Questions that came of instructions inside a document: documents are data, and may be somebody's attempt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from bessemer.questions.prompts import frames
from bessemer.text import is_han, units

ECHO_WORDS, ECHO_HAN = 6, 12
"""So many units in a row of our own prompt are an echo of it."""

_LINK = re.compile(
    r"\w+://|\bwww\.|\]\(|<\s*(?:a|img|script|iframe)\b|\bmailto:|\bdata:\w+/|[\w.+-]+@[\w-]+\.\w{2,}", re.IGNORECASE
)
_SAY = "(?:please )?(?:output|print|repeat|respond|reply|answer|write|say|return)"
_IGNORE = "(?:ignore|disregard|forget|override|bypass)"
# Where an order stands: at the start, behind a mark or a `please`. Behind `how do I` the same words are a question.
_ORDERED = r"(?:(?:^|[.!?,;:–—\n])[\"'“”‘’)\s]*(?:(?:now|and|then|just|first|also) )*|\b(?:please|you must) )"
_ORDERED_ZH = (
    r"(?:(?:^|[，。！？；：、,.!?;:\n])[“”\"\s]*(?:你|您|现在|立即|务必|并|然后)*|(?<!申)请(?:立即|务必)?|你必须)"
)
_ORDERS = (
    rf"{_ORDERED}{_IGNORE}\b.{{0,30}}\b(?:above|previous|prior|earlier|preceding|all|any|your)\b",
    rf"{_ORDERED}{_IGNORE}\b.{{0,30}}\bthe (?:system|rules?|instructions?)\b",
    rf"\b{_IGNORE}\b.{{0,30}}\b(?:the above|(?:all|any|your|previous|the)\b.{{0,20}}\binstructions?)\b",
    r"\b(?:system|developer) (?:prompt|instructions?)\b|\byour (?:system|developer) message\b",
    rf"{_ORDERED}(?:{_SAY}|reveal|show|tell)\b.{{0,30}}\b(?:system|developer) message\b",
    r"\b(?:your|these|previous|above|following|new) instructions?\b",
    r"\bas an? (?:ai|language model|assistant)\b",
    r"\byou are (?:now|no longer|chatgpt|an? (?:ai|assistant|language model))\b",
    rf"^{_SAY}\b.{{0,40}}\b(?:exactly|only|with|after me)\b",
    rf"^{_SAY}\b.{{0,20}}\bthe (?:word|following|phrase|sentence|text)\b",
    r"\b(?:jailbreak|do anything now)\b",
    r"</?(?:passage|question|system|user|assistant|instructions?)\b|<\|\w+\|>|\[/?INST\]",
    rf"{_ORDERED_ZH}(?:忽略|无视).{{0,12}}(?:以上|上面|上述|之前|前面|先前|所有|指令|提示|规则)",
    r"(?:忽略|无视).{0,12}(?:以上|上面|上述|之前|前面|先前|所有|你的).{0,6}(?:指令|提示词)",
    r"你的系统提示|系统提示(?:指令|(?:的内容)?是什么(?!意思|原因))",
    rf"{_ORDERED_ZH}(?:输出|打印|显示|展示|复述|重复|泄露|说出|给出|写出|告诉我).{{0,6}}系统提示",
    r"提示词|(?:上述|以上|新的|你的|这些)指令|作为(?:一个|一名)?(?:AI|人工智能|语言模型)|你现在是",
    r"^(?:请)?(?:输出|打印|重复|复述|回复|回答)(?:以下|如下|下面|这句|：|:|“|\")",
)
_ORDER = re.compile("|".join(_ORDERS), re.IGNORECASE)


def hostility(question: str) -> str:
    """Why a question looks like the work of an instruction in its document; "" where it does not."""
    if _LINK.search(question):
        return "holds a link or an address"
    if _ORDER.search(question):
        return "an instruction, not a question"
    if _echoes(question):
        return "repeats the prompt"
    return ""


def _echoes(question: str) -> bool:
    n = ECHO_HAN if is_han(question) else ECHO_WORDS
    words = units(question)
    return any(tuple(words[i : i + n]) in _runs_of_frames(n) for i in range(len(words) - n + 1))


@cache
def _runs_of_frames(n: int) -> frozenset[tuple[str, ...]]:
    return frozenset(run for frame in frames() for run in _runs(units(frame), n))


def _runs(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
