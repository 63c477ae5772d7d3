"""Questions and verdicts out of what a language model answers, however it wraps them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bessemer.text import whole_characters

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_MARK = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.)、:：]|[Qq](?:uestion)?\s*\d*\s*[:：.]|问题?\s*\d*\s*[:：.])(?!\d)\s*")
"""Of a list; before a digit it is a part of what is asked: ``802.11ac``, ``-20 degrees``."""
_OPENING = re.compile(
    r"(?:sure|certainly|of course|okay|ok|here (?:are|is)|here's|below (?:are|is)|the following|these are|i have|i've"
    r"|as (?:you )?(?:requested|asked)|per your request|以下|下面|好的|当然)(?![a-z])",
    re.IGNORECASE,
)
_QUESTIONS = re.compile(r"\bquestions?\b|\bqueries\b|问题", re.IGNORECASE)
_ABOUT = re.compile(rf"{_QUESTIONS.pattern}|[:：!！.。]$", re.IGNORECASE)
_MANY = "one|two|three|four|five|six|seven|eight|nine|ten|some|several|a few"
_TAIL = "(?: (?:are|follow|as requested|(?:about|for|on|from|based on) (?:the|this) (?:passage|text|document)))*"
_HEADING = re.compile(
    rf"(?:(?:the|these|my|your) )?(?:\d{{1,2}}|{_MANY}) (?:(?:search|possible|different|distinct|more) )?"
    rf"(?:questions?|queries){_TAIL}[:：.!]?"
    rf"|(?:(?:the|these|my|your) )?(?:questions|queries){_TAIL}[:：]"
    r"|[\d一二两三四五六七八九十]+个问题(?:是|如下)?[:：。]?",
    re.IGNORECASE,
)
"""All of a line; what only begins so may well be asked: ``two questions a day: is that the limit``."""
_BRACKET, _SEPARATOR = re.compile(r"[\[{]"), re.compile(r"[\s,]*")
_BEGUN = re.compile(r'\[\s*(?:\{\s*)?"|\{\s*"')
"""What opens so is JSON, whole or not; a question may hold other brackets."""
MOST_BROKEN = 200
"""Brackets that open nothing, after which an answer is given up."""
_QUESTION_KEYS, _EVIDENCE_KEYS = ("question", "query"), ("evidence", "quote")
_YES = re.compile(r"[\W_]*(?:yes(?![a-z])|是(?![否不]))", re.IGNORECASE)
_NO = re.compile(r"[\W_]*(?:no(?![a-z])|否|不)", re.IGNORECASE)
"""Verdicts, whatever marks stand before them."""
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class Asked:
    """A question with the words of the passage that answer it, where the model gave them."""

    text: str
    evidence: str = ""


@dataclass(frozen=True)
class Parsed:
    """``refused``: (text, reason) of what was taken for no question. ``is_cut``: the answer broke off, and what stood
    before that was saved."""

    questions: tuple[Asked, ...]
    refused: tuple[tuple[str, str], ...] = ()
    is_cut: bool = False


def parse_questions(text: str) -> Parsed:
    """The questions in an answer: a JSON list of strings; a list or lines of objects with ``question`` and perhaps
    ``evidence``; either in a code fence or between other words; questions with ``|`` between them; or lines that end
    in a question mark. A list that breaks off keeps its whole items. A sentence about the questions is none."""
    body = whole_characters("\n".join(_FENCE.findall(text)) or text)
    values, is_cut, end = _json_values(body)
    found = [asked for value in values for asked in _asked(value)]
    refused: list[tuple[str, str]] = []
    if not found:
        is_cut = end < len(body)
        lines, others = _plain(body[:end])
        found = [Asked(line) for line in lines]
        refused += [(line.strip(), "ends in no question mark, as others do") for line in others]
    kept: dict[str, Asked] = {}
    for asked in found:
        question = _MARK.sub("", _without_preamble(" ".join(asked.text.split()))).strip("\"'“” ")
        fault = _fault(question, kept)
        if fault:
            refused.append((asked.text.strip(), fault))
        else:
            kept[question.casefold()] = Asked(question, asked.evidence.strip())
    return Parsed(tuple(kept.values()), tuple(refused), is_cut)


def _fault(question: str, kept: dict[str, Asked]) -> str:
    if not any(character.isalnum() for character in question):
        return "empty"
    if _is_preamble(question):
        return "a sentence about the questions"
    return "twice in one answer" if question.casefold() in kept else ""


def _is_preamble(text: str) -> bool:
    """``Here are 2 questions:`` and its like."""
    is_one = _HEADING.fullmatch(text) or (_OPENING.match(text) and _ABOUT.search(text))
    return bool(is_one) and not text.endswith(("?", "？"))


def _without_preamble(text: str) -> str:
    """``2 questions: What is A?`` without the first of these."""
    head, *rest = re.split(r":\s|：", text, maxsplit=1)
    is_about_rest = any(rest) and _QUESTIONS.search(head) and _is_preamble(f"{head}:")
    return rest[0].strip() if is_about_rest else text


def _json_values(text: str) -> tuple[list[Any], bool, int]:
    """Every JSON list and object in ``text``, in order; whether one of them breaks off; and where the first begins that
    does so before its first item, the end of ``text`` where none does."""
    values: list[Any] = []
    is_cut, end = False, len(text)
    position = n_failed = 0
    while n_failed < MOST_BROKEN and (match := _BRACKET.search(text, position)):
        try:
            value, position = _DECODER.raw_decode(text, match.start())
            values.append(value)
        except (ValueError, RecursionError):
            n_failed += 1
            items, position = _whole_items(text, match.start())
            values += items
            is_begun = not items and _BEGUN.match(text, match.start()) is not None
            is_cut = is_cut or bool(items) or is_begun
            end = min(end, match.start()) if is_begun else end
    return values, is_cut, end


def _whole_items(text: str, start: int) -> tuple[list[Any], int]:
    """The items of a list that breaks off, and where the first one does that is not whole."""
    items: list[Any] = []
    position = start + 1
    while text[start] == "[":
        try:
            item, position = _DECODER.raw_decode(text, _SEPARATOR.match(text, position).end())  # type: ignore[union-attr]
        except (ValueError, RecursionError):
            break
        items.append(item)
    return items, position


def _asked(value: Any) -> Iterator[Asked]:
    if isinstance(value, str):
        yield Asked(whole_characters(value))
    elif isinstance(value, list):
        for item in value:
            yield from _asked(item)
    elif isinstance(value, dict):
        question = next((value[key] for key in _QUESTION_KEYS if isinstance(value.get(key), str)), None)
        if question is None:
            for item in value.values():
                if isinstance(item, list | dict):
                    yield from _asked(item)
            return
        evidence = next((value[key] for key in _EVIDENCE_KEYS if value.get(key)), "")
        yield Asked(whole_characters(question), whole_characters(_joined(evidence)))


def _joined(evidence: Any) -> str:
    """One span, or several in a list."""
    spans = evidence if isinstance(evidence, list) else [evidence]
    return "\n".join(span for span in spans if isinstance(span, str))


def _plain(text: str) -> tuple[list[str], list[str]]:
    """Without any JSON: parts between ``|``, else lines that end as questions do; and the lines beside these."""
    if "|" in text:
        return [_behind_preamble(part.strip()) for part in text.replace("\n", "|").split("|")], []
    asked, others = [], []
    for line in text.splitlines():
        if line.rstrip().endswith(("?", "？")):
            asked.append(line)
        elif any(map(str.isalnum, line)):
            others.append(line)
    return asked, others if asked else []


def _behind_preamble(part: str) -> str:
    """Between ``|`` a preamble may leave out what it is about: ``Sure: What is A? | Why B?``."""
    head, *rest = re.split("[:：]", part, maxsplit=1)
    if not _is_preamble(f"{head}:"):
        return part
    return rest[0] if any(rest) else f"{head}:"


def says_yes(answer: str) -> bool:
    """Whether a verdict of one word, in English or Chinese, is yes. What is no verdict is neither yes nor no."""
    return _YES.match(answer) is not None


def says_no(answer: str) -> bool:
    return _NO.match(answer) is not None
