"""How well scores tell positives from negatives, before and after tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bessemer.types import Qrels, Run

N_NEGATIVES = 10
_BIN = 0.025
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class Vectors:
    """One system's vectors: row i of ``queries`` is query i, row j of ``passages`` is passage j. Any length."""

    queries: NDArray[np.float32]
    passages: NDArray[np.float32]


def separation(
    systems: Mapping[str, Vectors], query_ids: Sequence[str], passage_ids: Sequence[str], qrels: Qrels, candidates: Run
) -> dict[str, Any]:
    """Histograms of the cosines of the same pairs under each system, and the AUC.

    Positives: all judged pairs with a grade above 0. Negatives: for each query the ``N_NEGATIVES`` first passages of
    ``candidates`` (the base's run) that are not relevant: the hard ones, as the base sees them, so the base's figures
    are pessimistic. AUC: the chance that a positive scores above a negative, ties count half (Mann-Whitney).
    Gives ``{"edges", system: {"positive": counts, "negative": counts, "auc"}, "note"}``; auc None without both kinds.
    """
    rows = {passage_id: row for row, passage_id in enumerate(passage_ids)}
    positive, negative = _pairs(query_ids, rows, qrels, candidates)
    cosines = {name: (_cosines(v, positive), _cosines(v, negative)) for name, v in systems.items()}
    every = np.concatenate([np.zeros(1), *(scores for both in cosines.values() for scores in both)])
    low, high = np.floor(every.min() / _BIN), np.ceil(every.max() / _BIN)
    edges = np.arange(low, max(high, low + 1) + 1) * _BIN
    figures: dict[str, Any] = {
        name: {
            "positive": np.histogram(good, edges)[0].tolist(),
            "negative": np.histogram(bad, edges)[0].tolist(),
            "auc": _auc(good, bad),
        }
        for name, (good, bad) in cosines.items()
    }
    note = (
        f"Cosines of {len(positive)} judged positive pairs and {len(negative)} negative ones: for each query the "
        f"{N_NEGATIVES} highest-ranked passages of {candidates.name} that are not relevant, the same for all systems."
    )
    return {"edges": [round(float(edge), 6) for edge in edges], **figures, "note": note}


def _pairs(
    query_ids: Sequence[str], rows: Mapping[str, int], qrels: Qrels, candidates: Run
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    positive, negative = [], []
    for i, query_id in enumerate(query_ids):
        relevant = {p for p, grade in qrels.get(query_id, {}).items() if grade > 0}
        if not relevant:
            continue
        positive += [(i, rows[p]) for p in sorted(relevant) if p in rows]
        others = [p for p, _ in candidates.results.get(query_id, []) if p not in relevant and p in rows]
        negative += [(i, rows[p]) for p in others[:N_NEGATIVES]]
    return np.asarray(positive, dtype=np.int64).reshape(-1, 2), np.asarray(negative, dtype=np.int64).reshape(-1, 2)


def _cosines(vectors: Vectors, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    blocks = [np.zeros(0)]
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = pairs[start : start + _PAIRS_AT_ONCE]
        queries = vectors.queries[some[:, 0]].astype(np.float64)
        passages = vectors.passages[some[:, 1]].astype(np.float64)
        norms = np.linalg.norm(queries, axis=1) * np.linalg.norm(passages, axis=1)
        blocks.append(np.einsum("nd,nd->n", queries, passages) / np.where(norms > 0, norms, 1))
    return np.clip(np.concatenate(blocks), -1, 1)


def _auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float | None:
    if not len(positive) or not len(negative):
        return None
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)].sum()
    return float((ranks - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))
