"""What belongs into a batch? Our trainer on batches made in several ways, by folds of train and dev. No test is read.

    python benchmarks/folds.py --data $BESSEMER_DATA --out out/folds [--sets or_sharc --variants plain once --seeds 3]

Train and dev queries are shared out into three folds: by passage where every query has one, so that the passages of a
fold are asked about nowhere else, as those of or_sharc's test split are; else by query. Training is on two of them, for
quality.py's steps at its settings, and the last weights are measured on the third over the whole corpus.

- "plain": our batches. Negatives are the nearest within the margin, in turn for a query with several positives.
- "once": a query or positive stands once in a batch, as sentence-transformers' NO_DUPLICATES has it: examples are taken
  in their order, those that repeat one wait. An epoch has as many batches as "plain", and what waits then waits for
  another, so that passages that many ask about count less.
- "by positive": all positives in turn, each with its examples in turn, so that all count the same.
- "weighted": "plain", and the queries of one positive that stand in a batch share the weight of one.

Every run is kept; what is there, or in the JSON, is not run again. Then benchmarks/folds.json is written and the
differences to "plain" within a fold and seed are printed. One to four minutes a run in one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import statistics
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from kept_runs import ROOT, KeptRuns, write_json
from processes import alone
from quality import EPOCHS, MAX_TRAIN_QUERIES

BATCH, N_FOLDS = 64, 3
MEASURES = ("nDCG@10", "R@10")
PLAIN = "plain"


class Example(NamedTuple):
    """``query_id`` and texts; no negative: "" """

    query_id: str
    query: str
    positive: str
    negative: str


Batches = list[list[int]]
Batching = Callable[[Sequence[Example], Sequence[int]], Batches]
"""(examples, their order) to batches of an epoch."""


class Way(NamedTuple):
    batching: Batching
    weighted: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", default=Path("out/folds"), type=Path)
    parser.add_argument("--sets", nargs="*", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    report = ROOT / "benchmarks" / "folds.json"
    runs = KeptRuns(given.out, report)
    for seed in range(1, 1 + given.seeds):
        for name in given.sets:
            for fold in range(N_FOLDS):
                for variant in given.variants:
                    run = f"{name}/{variant}.{fold}.{seed}"
                    if run not in runs:
                        what = {"set": name, "variant": variant, "fold": fold, "seed": seed}
                        beir, log = given.data / "beir" / name, given.out / "output.txt"
                        runs.keep(run, {**what, **alone(trained, beir, variant, fold, seed, given.out / run, log=log)})
                        print(*what.values(), flush=True)
    write_json(report, {"runs": runs.all()})
    print("\n".join(table([*runs.all().values()])))


# ---- in the process of one run ----


def trained(beir: Path, variant: str, fold: int, seed: int, folder: Path) -> dict[str, Any]:
    from bessemer.encoders.load import load_encoder
    from bessemer.formats import load_collection

    collection = load_collection(str(beir)).collection
    encoder = load_encoder("minilm", device="cpu", max_length=256)
    held = held_out(collection, fold, MAX_TRAIN_QUERIES.get(beir.name))
    way = VARIANTS[variant]
    examples = examples_of(collection, held.train, encoder)
    steps = round(math.ceil(len(examples) / BATCH) * EPOCHS[beir.name])
    draw, batches = random.Random(seed), list[list[int]]()
    while len(batches) < steps:
        batches += way.batching(examples, draw.sample(range(len(examples)), len(examples)))
    base = measured(collection, held.queries, held.qrels, encoder) if variant == PLAIN else None
    with weighted_loss() if way.weighted else nullcontext():
        train(encoder, examples, batches[:steps], seed, folder)
    tuned = measured(collection, held.queries, held.qrels, encoder)
    without = sum(not example.negative for example in examples)
    return {**tuned, "base": base, "examples": len(examples), "without_negative": without, "steps": steps}


class Held(NamedTuple):
    train: dict[str, dict[str, int]]
    queries: dict[str, Any]
    qrels: dict[str, dict[str, int]]


def held_out(collection: Any, fold: int, limit: int | None) -> Held:
    """Judgements to train on, and the queries and judgements of the fold."""
    splits = [collection.splits[name] for name in ("train", "dev") if name in collection.splits]
    queries = {query.query_id: query for split in splits for query in split.queries}
    qrels = {
        query_id: relevant
        for split in splits
        for query_id, grades in split.qrels.items()
        if query_id in queries and (relevant := {p: grade for p, grade in grades.items() if grade > 0})
    }
    if limit:
        qrels = {query_id: qrels[query_id] for query_id in sorted(qrels, key=number)[:limit]}
    by_passage = all(len(grades) == 1 for grades in qrels.values())
    own = {q: (number(min(grades)) if by_passage else number(q)) % N_FOLDS for q, grades in qrels.items()}
    return Held(
        {q: grades for q, grades in qrels.items() if own[q] != fold},
        {q: queries[q] for q in qrels if own[q] == fold},
        {q: grades for q, grades in qrels.items() if own[q] == fold},
    )


def number(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest(), 16)


def examples_of(collection: Any, qrels: Mapping[str, Mapping[str, int]], encoder: Any) -> list[Example]:
    from bessemer.config import NegativesConfig
    from bessemer.negatives import mine_hard_negatives
    from bessemer.types import Judged

    texts = {passage.passage_id: passage.indexed_text for passage in collection.passages}
    splits = [collection.splits[name] for name in ("train", "dev") if name in collection.splits]
    queries = tuple(query for split in splits for query in split.queries if query.query_id in qrels)
    mined = mine_hard_negatives(Judged(queries, qrels), collection.passages, encoder, NegativesConfig()).negatives
    negatives = {row.query_id: [texts[p] for p in row.passage_ids] for row in mined}
    examples = []
    for query in queries:
        for turn, passage_id in enumerate(sorted(qrels[query.query_id])):
            own = negatives.get(query.query_id) or [""]
            examples.append(Example(query.query_id, query.searched_text, texts[passage_id], own[turn % len(own)]))
    return examples


def train(encoder: Any, examples: Sequence[Example], batches: Batches, seed: int, folder: Path) -> None:
    """Our trainer on just these batches."""
    from bessemer.config import FinetuneConfig
    from bessemer.training.batches import TrainingData
    from bessemer.training.cpu import fast_training
    from bessemer.training.open_trainer import open_trainer
    from bessemer.types import HardNegatives, Judged, Passage, Query

    texts = dict.fromkeys(text for example in examples for text in (example.positive, example.negative) if text)
    ids = {text: f"p{i}" for i, text in enumerate(texts)}  # a text is one passage, as in a corpus
    queries = tuple(Query(f"q{i}", example.query) for i, example in enumerate(examples))
    passages = [Passage(key, key, text) for text, key in ids.items()]
    negatives = [
        HardNegatives(f"q{i}", (ids[example.negative],), (0.0,), {}, "given")
        for i, example in enumerate(examples)
        if example.negative
    ]
    judged = Judged(queries, {f"q{i}": {ids[example.positive]: 1} for i, example in enumerate(examples)})
    config = FinetuneConfig(max_steps=len(batches), per_device_train_batch_size=max(map(len, batches)))
    data = TrainingData(judged, passages, negatives)
    trainer = open_trainer([data], encoder, None, config, seed, folder / "run")
    trainer.args.save_strategy = "no"
    made = [np.array(batch) for batch in batches]
    with (
        mock.patch.object(trainer.batches, "of_epoch", return_value=made),
        mock.patch.object(type(trainer.batches), "__len__", return_value=len(made)),
        fast_training(encoder, bf16=trainer.args.bf16),
    ):
        trainer.train()


def weighted_loss() -> Any:
    from torch.nn import functional as F

    from bessemer.training.losses import info_nce

    def of_positives(logits: Any, positives: Any) -> Any:
        weights = 1 / positives.bincount()[positives]
        return (weights * F.cross_entropy(logits, positives, reduction="none")).sum() / weights.sum()

    module = sys.modules[info_nce.__module__]
    return mock.patch.object(module, "F", SimpleNamespace(cross_entropy=of_positives, one_hot=F.one_hot))


def measured(
    collection: Any, queries: Mapping[str, Any], qrels: Mapping[str, Mapping[str, int]], encoder: Any
) -> dict[str, float]:
    from bessemer.measures import per_query
    from bessemer.search.exact import ExactSearch

    passages = encoder.encode_passages([passage.indexed_text for passage in collection.passages]).dense
    vectors = encoder.encode_queries([query.searched_text for query in queries.values()]).dense
    scores, found = ExactSearch(passages).top_k(vectors, 10)
    hits = {
        query_id: [(collection.passages[p].passage_id, float(s)) for p, s in zip(found[i], scores[i], strict=True)]
        for i, query_id in enumerate(queries)
    }
    values = per_query(hits, qrels, list(queries), list(MEASURES))
    return {measure: statistics.fmean(values[measure].values()) for measure in MEASURES}


# ---- the ways to make batches ----


def plain(examples: Sequence[Example], order: Sequence[int]) -> Batches:
    return [list(map(int, batch)) for batch in np.array_split(order, math.ceil(len(order) / BATCH))]


def once(examples: Sequence[Example], order: Sequence[int]) -> Batches:
    batches, waiting = [], list(order)
    for _ in range(math.ceil(len(order) / BATCH)):
        batch, seen, left = list[int](), set[str](), list[int]()
        for i in waiting:
            texts = {examples[i].query, examples[i].positive}
            if len(batch) < BATCH and not texts & seen:
                batch.append(i)
                seen |= texts
            else:
                left.append(i)
        batches.append(batch)
        waiting = left
    return batches


def by_positive(examples: Sequence[Example], order: Sequence[int]) -> Batches:
    queues: dict[str, deque[int]] = defaultdict(deque)
    for i in order:
        queues[examples[i].positive].append(i)
    turns, taken = deque(queues.values()), list[int]()
    while len(taken) < len(order):
        taken.append(turns[0][0])
        turns[0].rotate(-1)
        turns.rotate(-1)
    return [taken[start : start + BATCH] for start in range(0, len(taken), BATCH)]


VARIANTS = {
    PLAIN: Way(plain),
    "once": Way(once),
    "by positive": Way(by_positive),
    "weighted": Way(plain, weighted=True),
}


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Per set and variant the mean, and the mean difference to "plain" within a fold and seed with its standard
    error."""
    found: dict[tuple[str, str], dict[tuple[int, int], float]] = defaultdict(dict)
    for run in runs:
        found[run["set"], run["variant"]][run["fold"], run["seed"]] = run[MEASURES[0]]
    lines = []
    for (name, variant), values in sorted(found.items()):
        base = found[name, PLAIN]
        gains = [values[key] - base[key] for key in values.keys() & base.keys()]
        error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
        gain = f"{statistics.fmean(gains):+.4f} (standard error {error:.4f})" if gains else ""
        lines.append(f"{name:10} {variant:22} {len(values)} runs, {statistics.fmean(values.values()):.4f} {gain}")
    return lines


if __name__ == "__main__":
    main()
