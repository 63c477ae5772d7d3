"""Answers of before, for questions that mean the same, as long as the passages behind them are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.sqlite_file import SqliteFile
from bessemer.text import unit_spans

SAME_QUESTION = 0.95
"""Cosine of two questions from which they may mean the same."""

Vector = NDArray[np.float32]
Evidence = Mapping[str, str]
"""passage_id -> hash of its text, of all passages that an answer was made from."""


class AnswerCache(SqliteFile):
    """Answers in one SQLite file, by the vectors of their questions.

    ``context`` is all that an answer depends on besides question and passages: retriever, language model, number of
    passages. Two questions that differ in a number, a code or a name in capitals are never the same, near as their
    vectors may be.
    """

    def __init__(self, file: Path, context: str) -> None:
        """Raises as `SqliteFile` does."""
        columns = "context TEXT, question TEXT, vector BLOB, answer TEXT, evidence TEXT"
        super().__init__(file, f"answers ({columns}, PRIMARY KEY (context, question))")
        self._context = context

    def find(
        self, question: str, vector: Vector, evidence_of: Callable[[str], Evidence]
    ) -> tuple[str, Mapping[str, Any]] | None:
        """(the question it was asked as, the answer) for ``vector`` (d,), of length 1. ``evidence_of``: what is found
        for a question today; where that is other than it was, the answer is forgotten."""
        columns = "question, vector, answer, evidence"
        rows = self.rows(f"SELECT {columns} FROM answers WHERE context = ?", (self._context,))
        likeness = [float(np.frombuffer(row[1], dtype=np.float32) @ vector) for row in rows]
        for place in sorted(range(len(rows)), key=lambda i: -likeness[i]):
            asked, _, answer, evidence = rows[place]
            if likeness[place] < SAME_QUESTION:
                return None
            if telling(asked) != telling(question):
                continue
            if json.loads(evidence) == dict(evidence_of(asked)):
                return asked, json.loads(answer)
            self.write("DELETE FROM answers WHERE context = ? AND question = ?", (self._context, asked))
        return None

    def keep(self, question: str, vector: Vector, answer: Mapping[str, Any], evidence: Evidence) -> None:
        row = (
            self._context,
            question,
            vector.astype(np.float32).tobytes(),
            json.dumps(answer, ensure_ascii=False),
            json.dumps(dict(evidence)),
        )
        self.write("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)


def telling(question: str) -> frozenset[str]:
    """Words whose change changes the answer: those with a digit, those in capitals, and negations."""
    words = {word: question[start:end] for word, start, end in unit_spans(question)}
    codes = {
        word
        for word, written in words.items()
        if any(map(str.isdigit, written)) or (len(written) > 1 and written.isupper())
    }
    return frozenset(codes | (words.keys() & _NEGATIONS))


_NEGATIONS = frozenset(
    ("not", "no", "never", "without", "cannot", "can't", "don't", "doesn't", "isn't", *"不没无非未别")
)
