"""Measured comparison of named systems on one split."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.encoder import Similarity
from bessemer.errors import ConfigError
from bessemer.evaluation.compare import evaluation_report
from bessemer.evaluation.evaluate import fuse_runs, run_system
from bessemer.evaluation.sts import evaluate_labelled_pairs, evaluate_sts
from bessemer.formats import read_pairs
from bessemer.formats.pairs import LabelledPair, ScoredPair
from bessemer.formats.trec import write_run
from bessemer.recipes.data import Material, load_judged, open_encoder
from bessemer.recipes.output import claim_folder
from bessemer.recipes.systems import bm25_over, dense_over, tfidf_over
from bessemer.types import Judged, Passage, Run


@dataclass(frozen=True)
class Setting:
    """What every system runs on, and the runs of those named before."""

    config: Config
    passages: tuple[Passage, ...]
    judged: Judged
    similarities: tuple[Similarity, ...]
    runs: dict[str, Run] = field(default_factory=dict)


def evaluate(
    config: Config,
    systems: Sequence[str],
    split: str = "test",
    similarity: str | None = None,
    runs_folder: str | None = None,
) -> Mapping[str, Any]:
    """Run every ``NAME=SPEC`` on a split of ``config.data`` and compare the last with the first.

    SPEC is `bm25`, `tfidf`, `dense:MODEL` or `hybrid:NAME+NAME` of two systems named before. A TSV of sentence pairs
    is measured by its own evaluators. ``similarity``: cosine, dot or both with a comma, in place of the models' own.
    Returns the JSON of `bessemer evaluate`. Raises ConfigError, DataError.
    """
    if config.data is None:
        raise ConfigError("evaluate needs --data: a collection with judgements, or a TSV of sentence pairs")
    named = _parse(systems)
    if runs_folder:
        claim_folder(runs_folder, "--runs")
    similarities = _similarities(similarity)
    if config.data.endswith(".tsv"):
        return _evaluate_pairs(config, named)
    material = load_judged(config, require=(split,))
    setting = Setting(config, material.collection.passages, material.collection.splits[split], similarities)
    for name, (kind, argument) in named.items():
        for run in SPECS[kind](setting, name, argument):
            setting.runs[run.name] = run
    if runs_folder:
        for run in setting.runs.values():
            write_run(run, Path(runs_folder, f"{run.name}.trec"))
    return _result(setting, material, split)


def _result(setting: Setting, material: Material, split: str) -> dict[str, Any]:
    runs = list(setting.runs.values())
    measured = evaluation_report(
        runs, setting.judged, setting.passages, setting.config.evaluation, compared=(runs[0].name, runs[-1].name)
    )
    warnings = material.account["warnings"]
    return {"data": setting.config.data, "split": split, **measured, "warnings": warnings}


def _parse(systems: Sequence[str]) -> dict[str, tuple[str, str]]:
    """NAME=SPEC to name -> (kind, argument). Raises ConfigError with every fault."""
    named: dict[str, tuple[str, str]] = {}
    faults = []
    for system in systems:
        name, given, spec = system.partition("=")
        kind, _, argument = spec.partition(":")
        if not given or not name or kind not in SPECS:
            faults.append(
                f"--system {system}: not NAME=SPEC with SPEC one of bm25, tfidf, dense:MODEL, hybrid:NAME+NAME"
            )
        elif not re.fullmatch(r"\w[\w.-]*", name):  # run files are named after it
            faults.append(f"--system {system}: a name is letters, digits, dots and dashes")
        elif name in named:
            faults.append(f"--system {system}: the name {name} is taken; give another")
        elif (kind in ("dense", "hybrid")) != bool(argument):
            faults.append(
                f"--system {system}: {kind} takes {'no argument' if argument else 'an argument after a colon'}"
            )
        elif kind == "hybrid" and not set(argument.split("+")) <= named.keys():
            faults.append(f"--system {system}: fuses systems named before it, as in hybrid:bm25+base")
        named[name] = (kind, argument)
    if not systems:
        faults.append("give at least one --system, as in --system base=dense:minilm --system bm25=bm25")
    if faults:
        raise ConfigError("\n".join(faults))
    return named


def _similarities(given: str | None) -> tuple[Similarity, ...]:
    known: dict[str, Similarity] = {"cosine": "cosine", "dot": "dot"}
    names = given.split(",") if given else []
    if not set(names) <= known.keys():
        raise ConfigError(f"--similarity {given}: give cosine, dot, or cosine,dot")
    return tuple(known[name] for name in names)


def _bm25(setting: Setting, name: str, _: str) -> list[Run]:
    return [run_system(name, bm25_over(setting.passages), setting.judged.queries, setting.config.evaluation.top_k)]


def _tfidf(setting: Setting, name: str, _: str) -> list[Run]:
    return [run_system(name, tfidf_over(setting.passages), setting.judged.queries, setting.config.evaluation.top_k)]


def _dense(setting: Setting, name: str, model: str) -> list[Run]:
    """One run, or one per asked similarity, named NAME-cosine and NAME-dot."""
    encoder = CachedEncoder(open_encoder(setting.config, model), setting.config.workspace_folder / "embeddings")
    similarities = setting.similarities or (encoder.similarity,)
    return [
        run_system(
            name if len(similarities) == 1 else f"{name}-{similarity}",
            dense_over(setting.passages, encoder, similarity),
            setting.judged.queries,
            setting.config.evaluation.top_k,
        )
        for similarity in similarities
    ]


def _hybrid(setting: Setting, name: str, argument: str) -> list[Run]:
    lanes = []
    for lane in argument.split("+"):
        found = [run for run_name, run in setting.runs.items() if run_name in (lane, f"{lane}-cosine")]
        lanes.append(found[0])
    return [fuse_runs(name, lanes, setting.config.evaluation.top_k)]


SPECS: dict[str, Callable[[Setting, str, str], list[Run]]] = {
    "bm25": _bm25,
    "tfidf": _tfidf,
    "dense": _dense,
    "hybrid": _hybrid,
}


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
