"""How passage, question and answer stand before a language model, per task (LLM-Embedder, arXiv 2310.07554).

``tool`` has no template there; ours follows that of qa. ``lrlm`` is running text: the answer continues the query
as it stands, and a passage holds its own continuation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bessemer.errors import ConfigError
from bessemer.llm.likelihood import Completion

DEFAULT_TASK = "qa"


@dataclass(frozen=True, slots=True)
class Template:
    """``pattern`` holds {passage}, {query} and {answer}, in this order; turns of the history that belong to the query
    stand before it, each followed by ``after_turn`` (None: the history is not shown)."""

    pattern: str
    after_turn: str | None = None

    def fill(self, passage: str, query: str, answer: str) -> Completion:
        """Braces inside the texts mean nothing. White space at the end of the answer is left out."""
        head, rest = self.pattern.split("{passage}")
        before_query, rest = rest.split("{query}")
        after_query, _ = rest.split("{answer}")
        return Completion(head, passage, before_query + query + after_query, answer.rstrip())

    def query(self, text: str, history: Sequence[str]) -> str:
        """The query as the pattern takes it: with its history where the task has one."""
        turns = () if self.after_turn is None else history
        return "".join(f"{turn}{self.after_turn}" for turn in turns) + text


_QA = "Knowledge: {passage}\n\nQuestion: {query}\n\nAnswer: {answer}"

TEMPLATES: Mapping[str, Template] = {
    "qa": Template(_QA),
    "convsearch": Template(_QA, after_turn="\n"),
    "icl": Template("{passage}\n{query}\n{answer}"),
    "chat": Template("{passage}\nSpeaker 1: {query}\nSpeaker 2: {answer}"),
    "lrlm": Template("{passage}\n{query}{answer}", after_turn=""),
    "tool": Template("Tool: {passage}\n\nRequest: {query}\n\nResponse: {answer}"),
}


def template_of(task: str) -> Template:
    """Raises ConfigError for a task without a template."""
    if task not in TEMPLATES:
        raise ConfigError(f"--task {task}: no template for a language model; known: {', '.join(sorted(TEMPLATES))}")
    return TEMPLATES[task]
