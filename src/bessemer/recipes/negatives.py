"""Hard negatives alone: judged data in, a BGE JSONL file with scores and ids out, and what they would teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bessemer.config import Config, NegativesConfig
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.two_towers import TwoTowerEncoder, untrainable
from bessemer.errors import ConfigError
from bessemer.evaluation.gradient_plot import gradient_svg
from bessemer.formats import write_bge_jsonl
from bessemer.formats.lines import atomic_writer
from bessemer.negatives import drawn, mine_hard_negatives, require_known, suspected_share
from bessemer.recipes.data import Material, load_judged, open_encoder, open_reranker
from bessemer.recipes.encoding_plan import encoding_step
from bessemer.recipes.output import claim_file, plain
from bessemer.recipes.plan import plan_of, step_of
from bessemer.training.gradients import measure_gradients, shared_contrasts
from bessemer.types import HardNegatives, Judged, Passage

GRADIENT_EXAMPLES = 128
COMPARED: Mapping[str, Mapping[str, Any]] = {
    "random": {"strategy": "random"},
    "top_k, no margin": {"strategy": "top_k", "relative_margin": 0.0},
    "top_k": {"strategy": "top_k"},
    "simans": {"strategy": "simans"},
    "bm25": {"strategy": "bm25"},
    "same_document": {"strategy": "same_document"},
}
LEAST_COVERED = 0.5
"""A strategy that has negatives for a smaller share of the queries is left out: it would shrink all the others."""


def negatives(config: Config, split: str, out: str, *, gradients: bool = False) -> Mapping[str, Any]:
    """Mine for one split of ``config.data`` and write ``out``. Returns the mining report with the number of rows.

    ``gradients`` adds what a negative of each strategy teaches the model, and draws it beside ``out``.
    """
    claim_file(out, "--out")
    material, model = _opened(config, split, gradients=gradients)
    encoder = CachedEncoder(model, config.workspace_folder / "embeddings")
    judged, passages = material.collection.splits[split], material.collection.passages
    mined = mine_hard_negatives(judged, passages, encoder, config.negatives, config.seed, open_reranker(config))
    kept = drawn(mined.negatives, config.negatives.n_negatives, config.seed)
    n_rows = write_bge_jsonl(out, judged, passages, kept, material.columns)
    report: dict[str, Any] = plain(mined.report)
    result = {"out": out, "rows": n_rows, **report, "data_warnings": list(material.account["warnings"])}
    if gradients:
        result |= gradient_report(config, judged, passages, encoder, Path(out).with_suffix(".gradients.svg"))
    return result


def plan_negatives(config: Config, split: str, out: str, *, gradients: bool = False) -> dict[str, Any]:
    """What it would take. Nothing is written."""
    material, encoder = _opened(config, split, gradients=gradients)
    texts = material.collection.passages, material.collection.splits[split].queries
    mining = encoding_step("negatives", encoder, *texts, config.workspace_folder / "embeddings")
    return plan_of([mining, *([step_of("gradients")] if gradients else [])], out=out)


def _opened(config: Config, split: str, *, gradients: bool) -> tuple[Material, DenseEncoder]:
    if config.data is None:
        raise ConfigError("negatives needs --data: a BEIR folder or a BGE JSONL file")
    require_known(config.negatives)
    material, encoder = load_judged(config, require=(split,)), open_encoder(config, config.model)
    if gradients and isinstance(encoder, TwoTowerEncoder):
        raise untrainable(encoder)
    return material, encoder


def gradient_report(
    config: Config, judged: Judged, passages: Sequence[Passage], encoder: CachedEncoder, plot: Path
) -> dict[str, Any]:
    """One negative of every strategy for the same queries: its weight, its gradient, how often it is suspect."""
    found = {name: _one_each(config, changes, judged, passages, encoder) for name, changes in COMPARED.items()}
    least = LEAST_COVERED * max(_n_covered(rows) for rows in found.values())
    left_out = [name for name, rows in found.items() if _n_covered(rows) < least]
    found = {name: rows for name, rows in found.items() if name not in left_out}
    contrasts = shared_contrasts(judged, passages, found, GRADIENT_EXAMPLES, config.seed)
    chosen = {contrast.query.query_id for contrast in contrasts}
    suspected = {name: suspected_share([r for r in rows if r.query_id in chosen]) for name, rows in found.items()}
    assert isinstance(encoder.encoder, DenseEncoder)
    temperature = config.finetune.temperature_of(normalised=encoder.similarity == "cosine")
    measured = measure_gradients(encoder.encoder, contrasts, temperature)
    rows = [{**asdict(row), "suspected": suspected[row.strategy]} for row in measured]
    subject = f"{Path(config.model).name} on {Path(str(config.data)).name}, temperature {temperature:g}"
    with atomic_writer(plot) as stream:
        stream.write(gradient_svg(rows, subject))
    notes = [f"{name}: too few queries have such a negative" for name in left_out]
    return {"gradients": rows, "gradients_plot": str(plot), "gradients_notes": notes}


def _one_each(
    config: Config, changes: Mapping[str, Any], judged: Judged, passages: Sequence[Passage], encoder: CachedEncoder
) -> tuple[HardNegatives, ...]:
    settings = NegativesConfig.model_validate({**config.negatives.model_dump(), **changes, "n_negatives": 1})
    return drawn(mine_hard_negatives(judged, passages, encoder, settings, config.seed).negatives, 1, config.seed)


def _n_covered(rows: Sequence[HardNegatives]) -> int:
    return sum(bool(row.passage_ids) for row in rows)
