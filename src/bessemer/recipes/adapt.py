"""The main recipe on one page: documents or judged data -> a fine-tuned model, an index, and whether it is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.evaluation.compare import evaluation_report
from bessemer.evaluation.evaluate import fuse_runs
from bessemer.evaluation.report import write_report
from bessemer.negatives import mine_hard_negatives
from bessemer.recipes.card import write_model_card
from bessemer.recipes.data import Material, load_judged, open_encoder, require_one_input
from bessemer.recipes.documents import material_from_documents
from bessemer.recipes.general import general_source, load_general_set, measure_general
from bessemer.recipes.output import claim_folder, plain, publish_folder, write_json
from bessemer.recipes.reporting import assemble_report, measure_separation
from bessemer.recipes.systems import run_base_systems, run_tuned
from bessemer.search.index import build_index
from bessemer.training.dev_pool import build_dev_pool
from bessemer.training.finetune import Selection, finetune
from bessemer.workspace import Workspace


def adapt(config: Config, material: Material | None = None) -> Mapping[str, Any]:
    """Tune ``config.model`` to the data and write DIR/model, DIR/index, DIR/report.json and DIR/report.html.

    ``material``: a collection made elsewhere, in place of ``config.source`` or ``config.data``. Returns the report as
    in report.json. Running the same call again goes on from the last finished step. Raises ConfigError, DataError.
    """
    if material is None:
        require_one_input(config)
    out = claim_folder(config.out)
    with Workspace(config.workspace, seed=config.seed) as workspace:
        step, embeddings = workspace.step, workspace.root / "embeddings"
        base = open_encoder(config, config.model)
        cached_base = CachedEncoder(base, embeddings)
        if material is None:
            material = (
                load_judged(config, require=("train", "test"))
                if config.data
                else (material_from_documents(config, base, workspace))
            )
        passages, splits = material.collection.passages, material.collection.splits
        train, dev, test = splits["train"], splits["dev"], splits["test"]
        evaluation, seed = config.evaluation, config.seed

        before = step("base-runs", run_base_systems, test, dev, passages, cached_base, evaluation)
        general = step("general-set", load_general_set, general_source(evaluation), seed)
        mined = step("negatives", mine_hard_negatives, train, passages, cached_base, config.negatives, seed)
        retrieved = [list(run.results.values()) for run in (before.dev_bm25, before.dev_base)]
        pool = build_dev_pool(dev, passages, retrieved, seed)
        selection = Selection(pool, general.choosing if general else None, evaluation.general_margin)
        fitted = step("model", finetune, train, passages, mined.negatives, base, selection, config.finetune, seed)

        tuned = open_encoder(config, str(fitted.model))
        cached_tuned = CachedEncoder(tuned, embeddings)
        after = step("tuned-runs", run_tuned, test, passages, cached_tuned, evaluation)
        kept = step("general-loss", measure_general, general, cached_base, cached_tuned, evaluation)
        scores = step("separation", measure_separation, test, passages, cached_base, cached_tuned, before.base)

        hybrids = [
            fuse_runs(f"hybrid-{run.name}", [before.bm25, run], evaluation.top_k) for run in (before.base, after)
        ]
        runs = [before.bm25, before.base, after, *hybrids]
        measured = evaluation_report(runs, test, passages, evaluation, general=kept, separation=scores)
        report = assemble_report(config, material, mined.report, fitted.report, measured, base, tuned)

        publish_folder(fitted.model, out / "model")
        write_model_card(out / "model", report)
        build_index(out / "index", passages, cached_tuned, out / "model")
        write_json(report, out / "report.json")
        write_report(plain(report), out / "report.html")
    return report
