"""The main recipe on text that every machine has: the docstrings of the installed scientific packages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.config import Config
from bessemer.corpus.dedup import deduplicate
from bessemer.corpus.docstrings import DocstringPair, docstring_pairs
from bessemer.questions.split import split_by_document
from bessemer.recipes.adapt import adapt
from bessemer.recipes.data import Material, account, capped
from bessemer.recipes.funnel import funnel_stage
from bessemer.types import Collection, Judged

QUICK = {"num_train_epochs": 1.0, "eval_steps": 0.5}
"""One epoch, so that the demo ends within minutes; more were not tried on dev. Flags win."""


def demo(config: Config) -> Mapping[str, Any]:
    """Adapt to the docstrings, split by module. The general set would be the same text, so there is none."""
    evaluation = config.evaluation.model_copy(update={"general": "none"})
    unset = {key: value for key, value in QUICK.items() if key not in config.finetune.model_fields_set}
    settings = {"evaluation": evaluation, "finetune": config.finetune.model_copy(update=unset)}
    return adapt(config.model_copy(update=settings), docstring_material(config))


def docstring_material(config: Config) -> Material:
    """Passages are docstring bodies, queries their summary lines; a module is in one split, whole."""
    pairs = docstring_pairs()
    unique = deduplicate([pair.passage for pair in pairs.kept], config.chunking)  # else copies fall into two splits
    kept_ids = {passage.passage_id for passage in unique.kept}
    kept = [pair for pair in pairs.kept if pair.passage.passage_id in kept_ids]
    splits = split_by_document({pair.module: pair.module for pair in kept}, config.split, config.seed)
    members: dict[str, list[DocstringPair]] = {"train": [], "dev": [], "test": []}
    for pair in kept:
        members[splits[pair.module]].append(pair)
    judged = {split: _judged(some) for split, some in members.items()}
    whole = Collection("docstrings of numpy, scipy, scikit-learn, torch", unique.kept, judged)
    collection, told = capped(whole, config.finetune.max_train_queries, config.seed)
    by_package = Counter(pair.module.split(".")[0] for pair in kept)
    counts = ", ".join(f"{package} {n}" for package, n in by_package.items())
    note = f"queries are first lines of docstrings, passages the rest ({counts}); split by module"
    funnel = [
        funnel_stage("docstrings", len(pairs.kept), pairs.dropped),
        funnel_stage("dedup", len(unique.kept), unique.dropped),
    ]
    dropped = (*pairs.dropped, *unique.dropped)
    return Material(collection, account(collection, warnings=[note, *told], funnel=funnel), dropped=dropped)


def _judged(pairs: Sequence[DocstringPair]) -> Judged:
    qrels = {pair.query.query_id: {pair.passage.passage_id: 1} for pair in pairs}
    return Judged(tuple(pair.query for pair in pairs), qrels)
