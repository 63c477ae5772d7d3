"""Dense vectors and BM25 by weighted scores, where the dev queries say that this beats their ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.encoders.encoder import Encoder
from bessemer.evaluation.evaluate import fuse_runs
from bessemer.search.fusion_tuning import FusionTuning, tune_fusion
from bessemer.search.index import open_index
from bessemer.search.index_manifest import write_fusion
from bessemer.search.retriever import LANE_DEPTH
from bessemer.types import Judged, Query, Run

NAME = "hybrid-weighted"


def tune_hybrid(queries: Sequence[Query], dev: Judged, dense: Run, bm25: Run) -> FusionTuning | None:
    """By the dev ``queries`` that have a relevant passage, as `bessemer index --fusion-data` would on an index of these
    lanes; None without any."""
    if not queries:
        return None
    lanes = {
        query.query_id: {lane: run.results[query.query_id][:LANE_DEPTH] for lane, run in _by_lane(dense, bm25).items()}
        for query in queries
    }
    return tune_fusion(lanes, dev.qrels)


def weighted_run(fusion: FusionTuning | None, dense: Run, bm25: Run, top_k: int) -> list[Run]:
    """`hybrid-weighted`; nothing where ranks are no worse on dev, as that system is there already."""
    if fusion is None or not fusion.weights:
        return []
    runs = _by_lane(dense, bm25)
    return [fuse_runs(NAME, list(runs.values()), top_k, [fusion.weights[lane] for lane in runs])]


def weigh_lanes(index: Path, encoder: Encoder, fusion: Mapping[str, Any]) -> None:
    """The index is searched so from now on."""
    write_fusion(open_index(index, encoder).engine, fusion)


def note_of(fusion: FusionTuning) -> str:
    """For a reader of the report."""
    measured = f"nDCG@10 {fusion.weighted:.4f}, by rank {fusion.by_rank:.4f}, on {fusion.n_queries} dev queries"
    if not fusion.weights:
        return f"The index fuses ranks: weighted scores of its lanes are no better by more than chance ({measured})."
    weights = " and ".join(f"{lane} {weight:g}" for lane, weight in fusion.weights.items())
    return (
        f"{NAME}, as the index searches: scores of tuned and BM25, with weights chosen on dev ({weights}: {measured})."
    )


def _by_lane(dense: Run, bm25: Run) -> dict[str, Run]:
    """In the order of an index: the first lane keeps the weight 1."""
    return {"dense": dense, "bm25": bm25}
