"""Answers of before, for questions in the same words or near ones, as long as the passages behind them are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.sqlite_file import SqliteFile

Vector = NDArray[np.float32]
Evidence = Mapping[str, str]
"""passage_id -> hash of its text, of all passages that an answer was made from."""

ALIKE = 0.8
"""Cosine of two questions from which they may ask the same. MiniLM has 0.86 for two ways to ask how often a pump may
start."""

_SAYS_NOTHING = frozenset(("the", "please", "bitte"))
_ENDS_A_QUESTION = "?？.。吗嗎 \t\r\n"


class AnswerCache(SqliteFile):
    """Answers in one SQLite file, by the `wording` of their questions, whose vectors say which of them are alike.

    ``context`` is all that an answer depends on besides question and passages: retriever, language models, how the
    question is rewritten, number of passages.
    """

    def __init__(self, file: Path, context: str) -> None:
        """Raises as `SqliteFile` does."""
        columns = "context TEXT, wording TEXT, question TEXT, vector BLOB, answer TEXT, evidence TEXT"
        super().__init__(file, f"answers ({columns}, PRIMARY KEY (context, wording))")
        self._context = context

    def find(self, question: str, evidence_of: Callable[[str], Evidence]) -> tuple[str, Mapping[str, Any]] | None:
        """(the question it was asked as, the answer), for the same `wording`. ``evidence_of``: what is found for a
        question today; where that is other than it was, the answer is forgotten."""
        key = (self._context, wording(question))
        select = "SELECT question, answer, evidence FROM answers WHERE context = ? AND wording = ?"
        for asked, answer, evidence in self.rows(select, key):  # one at most
            if json.loads(evidence) == dict(evidence_of(asked)):
                return asked, json.loads(answer)
            self.write("DELETE FROM answers WHERE context = ? AND wording = ?", key)
        return None

    def nearest(self, vector: Vector) -> str | None:
        """The question whose vector has the highest cosine with ``vector`` (d,), of length 1, where that is ALIKE at
        least."""
        rows = self.rows("SELECT question, vector FROM answers WHERE context = ?", (self._context,))
        if not rows:
            return None
        known = np.stack([np.frombuffer(blob, dtype=np.float32) for _, blob in rows])
        cosines = known @ vector
        best = int(cosines.argmax())
        return rows[best][0] if cosines[best] >= ALIKE else None

    def keep(self, question: str, vector: Vector, answer: Mapping[str, Any], evidence: Evidence) -> None:
        """In place of what was kept for a question in the same words; ``vector`` (d,) of length 1. Raises as
        `SqliteFile.write` does."""
        row = (
            self._context,
            wording(question),
            question,
            vector.astype(np.float32).tobytes(),
            json.dumps(answer, ensure_ascii=False),
            json.dumps(dict(evidence)),
        )
        self.write("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)


def wording(question: str) -> str:
    """``question`` without what says nothing: white space, the first word's capital, courtesy, articles, the end mark.

    Everything else may change the answer, order and capitals included: a negation in any language, two and three, EUR
    to USD and USD to EUR, kB and kb, C and C++. A list of such words would never be whole. Where two questions wrongly
    count as different, a call is made; where they wrongly count as the same, somebody is told the wrong thing.
    """
    words = question.strip().removeprefix("请问").lstrip("，, ").rstrip(_ENDS_A_QUESTION).split()
    if words and words[0][1:].islower():
        words[0] = words[0].lower()
    return " ".join(word for word in words if word not in _SAYS_NOTHING)
