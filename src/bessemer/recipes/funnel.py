"""What each stage kept and dropped, and why: the same rows in every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bessemer.formats.lines import write_jsonl
from bessemer.types import Dropped


def funnel_stage(stage: str, n_kept: int, dropped: Sequence[Dropped]) -> dict[str, Any]:
    """One stage of the funnel in report.json, its reasons from the most frequent down."""
    reasons = Counter(item.reason for item in dropped)
    return {"stage": stage, "kept": n_kept, "dropped": len(dropped), "reasons": dict(reasons.most_common())}


def write_dropped(dropped: Sequence[Dropped], path: str | Path) -> None:
    """One line per dropped item: id, stage, reason, text, passage_id, and score where there is one."""
    rows = []
    for item in dropped:
        row = {
            "id": item.id,
            "stage": item.stage,
            "reason": item.reason,
            "text": item.text,
            "passage_id": item.passage_id,
        }
        rows.append(row if item.score is None else {**row, "score": item.score})
    write_jsonl(path, rows)
