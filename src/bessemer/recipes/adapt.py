"""The main recipe on one page: documents or judged data -> a fine-tuned model, an index, and whether it is better."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.errors import ConfigError
from bessemer.evaluation.compare import evaluation_report
from bessemer.evaluation.evaluate import fuse_runs
from bessemer.evaluation.report import write_report
from bessemer.llm.client import Client
from bessemer.measures import check_measures
from bessemer.negatives import mine_hard_negatives, require_known
from bessemer.recipes.adapt_plan import Plan
from bessemer.recipes.card import write_model_card
from bessemer.recipes.data import (
    Material,
    load_judged,
    mining_of,
    open_encoder,
    open_reranker,
    require_one_input,
    require_outside,
)
from bessemer.recipes.documents import material_from_documents
from bessemer.recipes.final_fit import fit_on_everything
from bessemer.recipes.finetune import FIGURES
from bessemer.recipes.funnel import write_dropped
from bessemer.recipes.general import general_source, load_general_set, measure_general
from bessemer.recipes.generated import estimate_of_documents, open_llm
from bessemer.recipes.output import claim_folder, publish_folder, require_own, write_json
from bessemer.recipes.questions import wants_llm
from bessemer.recipes.reporting import assemble_report, measure_separation
from bessemer.recipes.soft_labels import all_calls, teacher_of, training_data, unused
from bessemer.recipes.systems import further_slices, run_base_systems, run_tuned
from bessemer.recipes.tasks import require_prompts, unused_tasks, with_task_prompts
from bessemer.recipes.weighted_hybrid import note_of, tune_hybrid, weigh_lanes, weighted_run
from bessemer.search.index_build import build_index
from bessemer.search.stores.files import LOCK
from bessemer.training.dev_pool import build_dev_pool
from bessemer.training.finetune import Selection, discard_checkpoints, finetune
from bessemer.training.preflight import require_settings
from bessemer.types import Judged
from bessemer.workspace import Workspace, WouldRun


def adapt(config: Config, material: Material | None = None) -> Mapping[str, Any]:
    """Tune ``config.model`` to the data and write DIR/model, DIR/index, DIR/report.json and DIR/report.html.

    ``material``: a collection made elsewhere, in place of ``config.source`` or ``config.data``. Returns the report as
    in report.json. Running the same call again goes on from the last finished step. Raises ConfigError, DataError.
    """
    _require_possible(config, material)
    out = claim_folder(config.out)
    with open_llm(config) as llm, Workspace(config.workspace, seed=config.seed) as workspace:
        return _adapt(config, material, workspace, out, Plan(), llm)


def _require_possible(config: Config, material: Material | None) -> None:
    """Raises ConfigError for what would end the run after hours."""
    if config.finetune.trained_head != "dense":
        raise ConfigError(
            f"--head {config.finetune.trained_head}: adapt measures and indexes dense vectors; use bessemer finetune"
        )
    if config.tasks:
        raise ConfigError("tasks: adapt tunes one task; run finetune for several, then evaluate and index each")
    if material is None:
        require_one_input(config)
        require_outside(config)
    require_prompts(config.task, config)
    require_known(config.negatives)
    check_measures(config.evaluation.measures)
    out, general = Path(config.out), general_source(config.evaluation)
    if isinstance(general, Path) and not general.exists():
        raise ConfigError(f"--general {general}: no such folder; give a BEIR folder, none, or leave it out")
    if config.queries and not Path(config.queries).is_file():
        raise ConfigError(f"--queries {config.queries}: no such file; give JSONL of your own questions")
    if not (out / "report.json").exists():  # else model/ is of an earlier run, whatever that left in it
        require_own(out / "model", FIGURES, "adapt")
    require_own(out / "index", LOCK, "adapt")


def _not_of_its_index(config: Config) -> list[str]:
    given = sorted(config.index.model_dump(exclude_defaults=True))
    return [f"index: {', '.join(given)} not used: adapt leaves a plain index; run bessemer index"] if given else []


def plan(config: Config, material: Material | None = None) -> Mapping[str, Any]:
    """What `adapt` would do: steps done, steps to run, and about how long. Nothing is written but embeddings."""
    _require_possible(config, material)
    planned = Plan()
    with (
        open_llm(config, dry_run=True) as llm,
        Workspace(config.workspace, seed=config.seed, dry_run=True) as workspace,
    ):
        try:
            _adapt(config, material, workspace, Path(config.out), planned, llm)
        except WouldRun as step:
            planned.next_step = str(step)
            if llm and planned.next_step == "documents" and wants_llm(config.questions, llm):
                assert planned.encoder
                planned.llm = estimate_of_documents(config, planned.encoder, llm)
    return planned.to_dict(config)


def _adapt(
    config: Config, material: Material | None, workspace: Workspace, out: Path, planned: Plan, llm: Client | None
) -> Mapping[str, Any]:
    teacher = teacher_of(config, llm)
    step, embeddings = workspace.step, workspace.root / "embeddings"
    evaluation, seed = config.evaluation, config.seed
    base = planned.encoder = open_encoder(config, config.model)
    require_settings(config.finetune, base)
    cached_base = CachedEncoder(base, embeddings)
    if material is None and config.data:
        material = load_judged(config, require=("train", "test"))
        if material.given_negatives:
            n = len(material.given_negatives)
            material.account["warnings"].append(f"negatives given for {n} queries are not used: adapt mines its own")
        if material.teacher_scores:
            n = len(material.teacher_scores)
            material.account["warnings"].append(f"teacher scores of {n} queries are not used: finetune uses them")
        material.account["warnings"].extend(unused_tasks(material.collection.splits["train"], config))
    elif material is None:
        material = material_from_documents(config, base, workspace, llm, planned)
    planned.collection = material.collection
    passages, splits = material.collection.passages, material.collection.splits
    train, dev, test = splits["train"], splits.get("dev", Judged((), {})), splits["test"]

    before = step("base-runs", run_base_systems, test, dev, passages, cached_base, evaluation)
    general = step("general-set", load_general_set, general_source(evaluation), cached_base, seed)
    reranker = open_reranker(config)
    mined = step("negatives", mine_hard_negatives, train, passages, cached_base, mining_of(config), seed, reranker)
    retrieved = [list(run.results.values()) for run in (before.dev_bm25, before.dev_base)]
    pool = build_dev_pool(dev, passages, retrieved, seed, before.dev_base.results)
    data, labels = training_data(config, workspace, train, passages, mined.negatives, llm, teacher)
    selection = Selection(pool, general.choosing if general else None, evaluation.general_margin)
    prompted = with_task_prompts(base, (config.task,), config)
    fitted = step("model", finetune, [data], prompted, selection, config.finetune, seed)
    discard_checkpoints(fitted)

    tuned = open_encoder(config, str(fitted.model))
    cached_tuned = CachedEncoder(tuned, embeddings)
    after = step("tuned-runs", run_tuned, test, dev, passages, cached_tuned, evaluation)
    kept = step("general-loss", measure_general, general, cached_base, cached_tuned, evaluation)
    scores = step("separation", measure_separation, test, passages, cached_base, cached_tuned, before.base)
    if workspace.dry_run:
        return {}

    top_k, dense = evaluation.top_k, (before.base, after.test)
    fusion = tune_hybrid(pool.queries, dev, after.dev, before.dev_bm25)
    hybrids = [fuse_runs(f"hybrid-{run.name}", [before.bm25, run], top_k) for run in dense]
    runs = [before.bm25, *dense, *hybrids, *weighted_run(fusion, after.test, before.bm25, top_k)]
    further = further_slices(splits, passages, cached_base, cached_tuned, evaluation)
    measured = evaluation_report(runs, test, passages, evaluation, general=kept, separation=scores, further=further)
    if fusion:
        unusable = len(dev.queries) - len(pool)
        measured["fusion"] = {**fusion.to_dict(), "unusable": unusable}
        measured["notes"] = [note_of(fusion), *measured["notes"]]
    report = assemble_report(config, material, mined.report, fitted.report, measured, base, tuned)
    report["training"]["notes"] += [*labels.notes, *unused(config), *_not_of_its_index(config)]
    if teacher:
        report["teacher"] = labels.account
    model, served = fitted.model, cached_tuned
    if config.final_fit and report["verdict"]["decision"] == "ship":
        final = fit_on_everything(config, workspace, material, fitted.report, base, llm, teacher)
        model, served = final.model, CachedEncoder(open_encoder(config, str(final.model)), embeddings)
        report["final_fit"] = final.account
        report["evaluation"]["notes"].insert(0, final.account["note"])
        report["fingerprints"]["final"] = served.fingerprint
    if llm and teacher and teacher.calls:
        report["data"]["llm"] = all_calls(report["data"].get("llm", {}), llm.model, teacher.calls)

    publish_folder(model, out / "model", {FIGURES: report["training"]})
    write_model_card(out / "model", report)
    build_index(out / "index", material.served, served, out / "model")
    if fusion:
        weigh_lanes(out / "index", served, measured["fusion"])
    write_dropped(material.dropped, out / "dropped.jsonl")
    write_json(report, out / "report.json")
    write_report(report, out / "report.html")
    return report
