"""Measured comparison of named systems on one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.encoder import Similarity
from bessemer.errors import ConfigError
from bessemer.evaluation.compare import evaluation_report
from bessemer.evaluation.sts import evaluate_labelled_pairs, evaluate_sts
from bessemer.formats import read_pairs
from bessemer.formats.pairs import LabelledPair, ScoredPair
from bessemer.formats.trec import check_ids, write_run
from bessemer.measures import check_measures
from bessemer.recipes.data import Material, load_judged, open_encoder
from bessemer.recipes.encoding_plan import encoding_step
from bessemer.recipes.output import claim_folder
from bessemer.recipes.plan import plan_of, step_of
from bessemer.recipes.specs import ENCODERS, SPECS, Named, Setting, check_extracted, check_models, parse_systems


def evaluate(
    config: Config,
    systems: Sequence[str],
    split: str = "test",
    similarity: str | None = None,
    runs_folder: str | None = None,
) -> Mapping[str, Any]:
    """Run every ``NAME=SPEC`` on a split of ``config.data`` and compare the last with the first.

    SPEC is `bm25`, `tfidf`, `dense:MODEL`, `sparse:MODEL`, `multi:MODEL`, `unified:MODEL`, `hybrid:NAME+NAME` of two
    systems named before, or `rerank:NAME:MODEL` of one. A TSV of sentence pairs is measured by its own evaluators.
    ``similarity``: cosine, dot or both with a comma, in place of the dense models' own. Returns the JSON of `bessemer
    evaluate`; systems with sparse vectors have ``active_dimensions`` (mean per query and per passage), those with
    multi-vectors ``bytes_per_passage``. Raises ConfigError, DataError.
    """
    named = _named(config, systems)
    similarities = _similarities(similarity)
    if _is_of_pairs(config):
        _refuse_for_pairs(split, similarity, runs_folder)
        return _evaluate_pairs(config, named)
    if runs_folder:
        claim_folder(runs_folder, "--runs")
    material = load_judged(config, require=(split,))
    passages, judged = material.collection.passages, material.collection.splits[split]
    check_extracted(named, judged, passages)
    if runs_folder:  # before any system runs
        check_ids(runs_folder, [*(p.passage_id for p in passages), *(query.query_id for query in judged.queries)])
    setting = Setting(config, passages, judged, similarities)
    for name, (kind, argument) in named.items():
        for run in SPECS[kind].run(setting, name, argument):
            setting.runs[run.name] = run
    if runs_folder:
        for run in setting.runs.values():
            write_run(run, Path(runs_folder, f"{run.name}.trec"))
    return _result(setting, material, split, named)


def plan_evaluate(config: Config, systems: Sequence[str], split: str) -> dict[str, Any]:
    """What it would take: a step for each system. Nothing is written."""
    named, steps = _named(config, systems), []
    material = None if _is_of_pairs(config) else load_judged(config, require=(split,))
    if material:
        check_extracted(named, material.collection.splits[split], material.collection.passages)
    for name, (kind, model) in named.items():
        if material is None or kind not in ENCODERS:
            steps.append(step_of(name))
            continue
        texts = material.collection.passages, material.collection.splits[split].queries
        encoder = ENCODERS[kind](config, model)
        steps.append(encoding_step(name, encoder, *texts, config.workspace_folder / "embeddings"))
    return plan_of(steps)


def _named(config: Config, systems: Sequence[str]) -> Named:
    if config.data is None:
        raise ConfigError("evaluate needs --data: a collection with judgements, or a TSV of sentence pairs")
    named = parse_systems(systems)
    check_models(named, config.trust_remote_code)
    check_measures(config.evaluation.measures)  # before any system runs
    return named


def _is_of_pairs(config: Config) -> bool:
    return str(config.data).endswith(".tsv")


def _result(setting: Setting, material: Material, split: str, named: Named) -> dict[str, Any]:
    runs = list(setting.runs.values())
    first, last = next(iter(named)), runs[-1].name
    ending = next((f"-{one}" for one in setting.similarities if last.endswith(f"-{one}")), "")  # like with like
    baseline = next((name for name in (f"{first}{ending}", first) if name in setting.runs), runs[0].name)
    baseline = baseline if len(named) > 1 else runs[0].name  # of one unified system its first lane, not its ensemble
    measured = evaluation_report(
        runs, setting.judged, setting.passages, setting.config.evaluation, compared=(baseline, last)
    )
    for name, facts in setting.facts.items():
        measured["systems"][name] |= facts
    warnings = [*material.account["warnings"], *setting.notes]
    return {"data": setting.config.data, "split": split, **measured, "warnings": warnings}


def _similarities(given: str | None) -> tuple[Similarity, ...]:
    known: dict[str, Similarity] = {"cosine": "cosine", "dot": "dot"}
    names = given.split(",") if given else []
    if not set(names) <= known.keys():
        raise ConfigError(f"--similarity {given}: give cosine, dot, or cosine,dot")
    return tuple(known[name] for name in names)


def _refuse_for_pairs(split: str, similarity: str | None, runs_folder: str | None) -> None:
    given = {"--split": split != "test", "--similarity": bool(similarity), "--runs": bool(runs_folder)}
    meant = [flag for flag, is_given in given.items() if is_given]
    if meant:
        raise ConfigError(
            f"{', '.join(meant)}: means nothing for a TSV of sentence pairs, which has neither splits nor rankings and "
            "is measured by the model's own similarity; leave it out"
        )


def _evaluate_pairs(config: Config, named: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Spearman and Pearson for scored pairs, AP and best F1 for labelled ones."""
    pairs = read_pairs(config.data or "")
    lexical = [name for name, (kind, _) in named.items() if kind != "dense"]
    if lexical:
        raise ConfigError(f"--system {lexical[0]}: sentence pairs are measured for dense:MODEL systems only")
    systems = {}
    for name, (_, model) in named.items():
        encoder = open_encoder(config, model)
        if all(isinstance(pair, ScoredPair) for pair in pairs):
            measures = evaluate_sts(encoder, [(p.left, p.right, p.score) for p in pairs if isinstance(p, ScoredPair)])
        elif all(isinstance(pair, LabelledPair) for pair in pairs):
            labelled = [(p.left, p.right, float(p.label)) for p in pairs if isinstance(p, LabelledPair)]
            measures = evaluate_labelled_pairs(encoder, labelled)
        else:
            raise ConfigError(f"{config.data}: triplets are training data; give pairs with scores or labels")
        systems[name] = {"measures": measures}
    return {"data": config.data, "split": None, "systems": systems, "comparisons": [], "verdict": None}
