from __future__ import annotations

import pytest

from bessemer.errors import ConfigError
from bessemer.llm.templates import TEMPLATES, template_of

EXPECTED = {
    "qa": "Knowledge: P\n\nQuestion: Q\n\nAnswer: A",
    "convsearch": "Knowledge: P\n\nQuestion: Q\n\nAnswer: A",
    "icl": "P\nQ\nA",
    "chat": "P\nSpeaker 1: Q\nSpeaker 2: A",
    "lrlm": "P\nQA",
    "tool": "Tool: P\n\nRequest: Q\n\nResponse: A",
}


@pytest.mark.parametrize("task", TEMPLATES)
def test_the_text_of_a_task(task: str) -> None:
    completion = template_of(task).fill("P", "Q", "A")
    assert completion.text == EXPECTED[task]
    assert (completion.passage, completion.answer) == ("P", "A")
    assert completion.text[completion.answer_start :] == "A"


def test_placeholders_and_braces_in_the_texts_are_text() -> None:
    completion = template_of("qa").fill("{query}{0}", "{answer} {passage}", "{passage}")
    assert completion.text == "Knowledge: {query}{0}\n\nQuestion: {answer} {passage}\n\nAnswer: {passage}"
    assert completion.passage == "{query}{0}"


def test_white_space_around_an_answer() -> None:
    completion = template_of("lrlm").fill("P", "Q", "  and on\n")
    assert completion.text == "P\nQ  and on"
    assert completion.text[completion.answer_start :] == "and on"


def test_history_stands_before_the_query_where_the_task_has_one() -> None:
    history = ["Who?", "Bessemer."]
    assert template_of("convsearch").query("When?", history) == "Who?\nBessemer.\nWhen?"
    assert template_of("lrlm").query("c", ["a ", "b "]) == "a b c"
    assert template_of("qa").query("When?", history) == "When?"


def test_an_unknown_task_is_refused_with_those_known() -> None:
    with pytest.raises(ConfigError, match="--task faq: no template for a language model; known: chat, convsearch, icl"):
        template_of("faq")
