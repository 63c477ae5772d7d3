"""The general set: what the base model could do before, so that forgetting is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from bessemer.config import EvaluationConfig
from bessemer.corpus.docstrings import docstring_pairs
from bessemer.draws import digest
from bessemer.encoders.encoder import Encoder
from bessemer.evaluation.compare import GeneralResult, general_result
from bessemer.evaluation.evaluate import run_system
from bessemer.formats import load_collection
from bessemer.recipes.systems import dense_over
from bessemer.training.dev_pool import EvaluationPool
from bessemer.types import Judged, Passage, Qrels, Query

DISTRIBUTIONS = ("numpy", "scipy", "scikit-learn", "torch")
N_PASSAGES = 1200
"""Encoding this many costs seconds; every candidate of the interpolation has to do it."""


@dataclass(frozen=True)
class GeneralSet:
    """Two halves of the queries over one corpus: one to choose by, one for the verdict."""

    name: str
    choosing: EvaluationPool
    verdict: EvaluationPool


def general_source(config: EvaluationConfig) -> Path | tuple[str, ...] | None:
    """What the general set is made of: a BEIR folder, or else the docstrings of these package versions."""
    if config.general == "none":
        return None
    return Path(config.general) if config.general else tuple(f"{name} {version(name)}" for name in DISTRIBUTIONS)


def load_general_set(source: Path | tuple[str, ...] | None, base: Encoder, seed: int) -> GeneralSet | None:
    """The test queries of a BEIR folder, or docstring pairs; ``source`` as `general_source` gives it. ``base``'s own
    scores come along with the half to choose by."""
    if source is None:
        return None
    halves = _halves_of(source, seed)
    if not len(halves.choosing):
        return halves
    of_base = tuple(halves.choosing.scores(base).tolist())
    return replace(halves, choosing=replace(halves.choosing, base=of_base))


def _halves_of(source: Path | tuple[str, ...], seed: int) -> GeneralSet:
    if isinstance(source, Path):
        collection = load_collection(source, seed=seed, require=("test",)).collection
        test = collection.splits["test"]
        return _halves(collection.name, test.queries, test.qrels, collection.passages, seed)
    pairs = sorted(docstring_pairs().kept, key=lambda pair: digest(seed, pair.passage.passage_id))[:N_PASSAGES]
    qrels = {pair.query.query_id: {pair.passage.passage_id: 1} for pair in pairs}
    name = "docstrings of numpy, scipy, scikit-learn, torch"
    return _halves(name, [pair.query for pair in pairs], qrels, [pair.passage for pair in pairs], seed)


def _halves(name: str, queries: Sequence[Query], qrels: Qrels, passages: Sequence[Passage], seed: int) -> GeneralSet:
    by_draw = sorted(queries, key=lambda query: digest(seed, f"half:{query.query_id}"))
    middle = len(by_draw) // 2
    pools = [
        EvaluationPool(tuple(half), qrels, tuple(passages), f"{name}: {len(half)} queries, {len(passages)} passages")
        for half in (by_draw[:middle], by_draw[middle:])
    ]
    return GeneralSet(name, *pools)


def measure_general(
    general: GeneralSet | None, base: Encoder, tuned: Encoder, config: EvaluationConfig
) -> GeneralResult | None:
    """What tuning cost on the half of the general queries that no choice was made on."""
    if general is None:
        return None
    pool = general.verdict
    runs = [
        run_system(name, dense_over(pool.passages, encoder), pool.queries, config.top_k)
        for name, encoder in (("base", base), ("tuned", tuned))
    ]
    judged = Judged(pool.queries, pool.qrels)
    return general_result(general.name, runs[0], runs[1], judged, pool.passages, config)
