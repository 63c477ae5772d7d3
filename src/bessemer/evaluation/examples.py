"""Queries won and lost, with what both systems put on top: for a person to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.types import Hits, Passage, Qrels, Query, Run

N_EXAMPLES = 5
_N_SHOWN = 3
_MAX_CHARACTERS = 1_000


def won_and_lost(
    base: Run, tuned: Run, queries: Sequence[Query], qrels: Qrels, passages: Mapping[str, Passage],
    changes: Mapping[str, float],
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """The queries that rose and fell most; ``changes``: query_id -> tuned - base. Long texts are cut with `…`."""
    ordered = sorted(queries, key=lambda query: (-changes[query.query_id], query.query_id))
    won = [query for query in ordered if changes[query.query_id] > 0][:N_EXAMPLES]
    lost = [query for query in reversed(ordered) if changes[query.query_id] < 0][:N_EXAMPLES]

    def example(query: Query) -> dict[str, Any]:
        relevant = [p for p, grade in qrels[query.query_id].items() if grade > 0]
        found = {"base": base.results.get(query.query_id, []), "tuned": tuned.results.get(query.query_id, [])}
        return {
            "query_id": query.query_id,
            "query": _cut(query.text),
            "change": changes[query.query_id],
            **{name: _shown(hits[:_N_SHOWN], set(relevant), passages) for name, hits in found.items()},
            "relevant": [{"passage_id": p, "text": _text(p, passages)} for p in relevant[:_N_SHOWN]],
            **{f"{name}_rank": _rank(hits, set(relevant)) for name, hits in found.items()},
        }

    return {"won": [example(query) for query in won], "lost": [example(query) for query in lost]}


def _shown(hits: Hits, relevant: set[str], passages: Mapping[str, Passage]) -> list[dict[str, Any]]:
    return [
        {"passage_id": p, "text": _text(p, passages), "score": score, "relevant": p in relevant} for p, score in hits
    ]


def _text(passage_id: str, passages: Mapping[str, Passage]) -> str:
    return _cut(passages[passage_id].indexed_text) if passage_id in passages else ""


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "…"


def _rank(hits: Hits, relevant: set[str]) -> int | None:
    """The rank of the first relevant passage, from 1."""
    return next((rank for rank, (p, _) in enumerate(hits, start=1) if p in relevant), None)
