"""Two ways to build an index, measured on the same queries: nDCG@10 of each, and the paired difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.config import EvaluationConfig
from bessemer.encoders.encoder import Encoder
from bessemer.evaluation.compare import evaluation_report
from bessemer.search.index import Index
from bessemer.search.question_index import LANE
from bessemer.types import Judged, Passage, Run
from machine import machine
from results import ROOT, with_section

SHOWN = ("nDCG@10", "R@10", "RR@10")
TOP_K = 100


def compared(plain: Index, treated: Index, encoder: Encoder, judged: Judged, passages: list[Passage]) -> dict[str, Any]:
    """What a search gives: all lanes fused; and of both the lane `dense` and of ``treated`` that of the questions,
    alone."""
    texts = [query.searched_text for query in judged.queries]
    vectors = encoder.encode_queries(texts)
    assert vectors.dense is not None
    runs: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for row, query in enumerate(judged.queries):
        one = type(vectors)(dense=vectors.dense[row : row + 1])
        for name, index in (("plain", plain), ("treated", treated)):
            hits = index.search_encoded(texts[row], one, TOP_K)
            runs.setdefault(name, {})[query.query_id] = [(hit["passage_id"], hit["score"]) for hit in hits]
            for lane in ("dense", LANE) if name == "treated" else ("dense",):
                scored = [(hit["passage_id"], hit["lanes"][lane]["score"]) for hit in hits if lane in hit["lanes"]]
                runs.setdefault(f"{name}.{lane}", {})[query.query_id] = scored
    found = [Run(name, results) for name, results in runs.items() if any(results.values())]
    evaluation = evaluation_report(found, judged, passages, EvaluationConfig(), compared=("plain", "treated"))
    return {key: evaluation[key] for key in ("n_queries", "systems", "comparisons")} | {"machine": machine()}


def table(measured: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """``measured``: by set; ``names``: of the systems, as a reader knows them."""
    lines = [
        f"| set | queries | system | {' | '.join(SHOWN)} | nDCG@10, to plain [95%] |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset, found in measured.items():
        to_plain = {
            row["treatment"]: f"{row['difference']:+.4f} [{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]"
            for row in found["comparisons"]
            if row["measure"] == "nDCG@10" and row["baseline"] == "plain"
        }
        for system, shown in names.items():
            if system in found["systems"]:
                values = " | ".join(f"{found['systems'][system]['measures'][measure]:.4f}" for measure in SHOWN)
                to = to_plain.get(system, "")
                lines.append(f"| {dataset} | {found['n_queries']:,} | {shown} | {values} | {to} |")
    return lines


def keep(path: Path, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """All that was measured so far, ``found`` under ``name``."""
    measured = json.loads(path.read_text()) if path.exists() else {}
    measured[name] = found
    path.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")
    return dict(measured)


def write_results(section: str, lines: list[str]) -> None:
    results = ROOT / "docs" / "results.md"
    results.write_text(with_section(results.read_text(), section, ["", *lines, ""]))
