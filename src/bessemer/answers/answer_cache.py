"""Answers of before, for questions that mean the same, as long as the passages behind them are the same."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bessemer.errors import ArtifactError
from bessemer.text import unit_spans

SAME_QUESTION = 0.95
"""Cosine of two questions from which they may mean the same."""

Vector = NDArray[np.float32]
Evidence = Mapping[str, str]
"""passage_id -> hash of its text, of all passages that an answer was made from."""


class AnswerCache:
    """Answers in one SQLite file, by the vectors of their questions.

    ``context`` is all that an answer depends on besides question and passages: retriever, language model, number of
    passages. Two questions that differ in a number, a code or a name in capitals are never the same, near as their
    vectors may be.
    """

    def __init__(self, file: Path, context: str) -> None:
        """Raises ArtifactError where the file is no such cache."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._context = context
        self._connection = sqlite3.connect(file, isolation_level=None)
        try:
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (context TEXT, question TEXT, vector BLOB, answer TEXT, "
                "evidence TEXT, PRIMARY KEY (context, question))"
            )
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ArtifactError(f"{file}: cannot be read ({error}); delete it, and answers are made anew") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def find(
        self, question: str, vector: Vector, evidence_of: Callable[[str], Evidence]
    ) -> tuple[str, Mapping[str, Any]] | None:
        """(the question it was asked as, the answer) for ``vector`` (d,), of length 1. ``evidence_of``: what is found
        for a question today; where that is other than it was, the answer is forgotten."""
        rows = self._connection.execute(
            "SELECT question, vector, answer, evidence FROM answers WHERE context = ?", (self._context,)
        ).fetchall()
        likeness = [float(np.frombuffer(row[1], dtype=np.float32) @ vector) for row in rows]
        for place in sorted(range(len(rows)), key=lambda i: -likeness[i]):
            asked, _, answer, evidence = rows[place]
            if likeness[place] < SAME_QUESTION:
                return None
            if telling(asked) != telling(question):
                continue
            if json.loads(evidence) == dict(evidence_of(asked)):
                return asked, json.loads(answer)
            self._connection.execute("DELETE FROM answers WHERE context = ? AND question = ?", (self._context, asked))
        return None

    def keep(self, question: str, vector: Vector, answer: Mapping[str, Any], evidence: Evidence) -> None:
        row = (
            self._context,
            question,
            vector.astype(np.float32).tobytes(),
            json.dumps(answer, ensure_ascii=False),
            json.dumps(dict(evidence)),
        )
        self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)


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
