"""Answers of before, for questions in the same words, as long as the passages behind them are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bessemer.sqlite_file import SqliteFile

Evidence = Mapping[str, str]
"""passage_id -> hash of its text, of all passages that an answer was made from."""

_SAYS_NOTHING = frozenset(("the", "please", "bitte"))
_ENDS_A_QUESTION = "?？.。吗嗎 \t\r\n"


class AnswerCache(SqliteFile):
    """Answers in one SQLite file, by the `wording` of their questions.

    ``context`` is all that an answer depends on besides question and passages: retriever, language models, how the
    question is rewritten, number of passages.
    """

    def __init__(self, file: Path, context: str) -> None:
        """Raises as `SqliteFile` does."""
        columns = "context TEXT, wording TEXT, question TEXT, answer TEXT, evidence TEXT"
        super().__init__(file, f"answers ({columns}, PRIMARY KEY (context, wording))")
        self._context = context

    def find(self, question: str, evidence_of: Callable[[str], Evidence]) -> tuple[str, Mapping[str, Any]] | None:
        """(the question it was asked as, the answer). ``evidence_of``: what is found for a question today; where that
        is other than it was, the answer is forgotten."""
        key = (self._context, wording(question))
        select = "SELECT question, answer, evidence FROM answers WHERE context = ? AND wording = ?"
        for asked, answer, evidence in self.rows(select, key):  # one at most
            if json.loads(evidence) == dict(evidence_of(asked)):
                return asked, json.loads(answer)
            self.write("DELETE FROM answers WHERE context = ? AND wording = ?", key)
        return None

    def keep(self, question: str, answer: Mapping[str, Any], evidence: Evidence) -> None:
        """In place of what was kept for a question in the same words. Raises as `SqliteFile.write` does."""
        shown = json.dumps(answer, ensure_ascii=False)
        row = (self._context, wording(question), question, shown, json.dumps(dict(evidence)))
        self.write("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)


def wording(question: str) -> str:
    """``question`` without what says nothing: white space, the first word's capital, courtesy, articles, the end mark.

    Everything else may change the answer, order and capitals included: a negation in any language, two and three, EUR
    to USD and USD to EUR, kB and kb, C and C++. A list of such words would never be whole, and vectors do not tell
    either: MiniLM has "Aren't the valves closed?" nearer to "Are the valves closed?" than most paraphrases. Where two
    questions wrongly count as different, one more call is made; where they wrongly count as the same, somebody is told
    the wrong thing.
    """
    words = question.strip().removeprefix("请问").lstrip("，, ").rstrip(_ENDS_A_QUESTION).split()
    if words and words[0][1:].islower():
        words[0] = words[0].lower()
    return " ".join(word for word in words if word not in _SAYS_NOTHING)
