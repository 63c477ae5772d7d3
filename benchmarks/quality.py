"""What our recipe gains over that of sentence-transformers: same base, pairs, steps and settings, same evaluation.

    python benchmarks/quality.py --data $BESSEMER_DATA --out out/quality [--write-docs]

- "bessemer": `bessemer adapt` with its defaults but for the epochs below: four negatives per query mined with a margin
  of 0.95, one of them at a time, the nearest first, judged and same-text passages masked in the batch, the best
  checkpoint by dev, weights mixed with the base's so that dev gains and the general set does not lose
  ("interpolation"). What it gives before mixing is measured, too.
- "sentence-transformers": SentenceTransformerTrainer with MultipleNegativesRankingLoss and one negative per pair from
  its own mine_hard_negatives over the whole corpus, with the setting that its documentation calls the strongest
  (relative_margin=0.05, nearest first; pairs for which it finds none it leaves out), and the batch sampler that the
  loss recommends (NO_DUPLICATES). The last weights, as it does by default. To save time in bf16, and with memory that
  glibc keeps between steps (2.8 times as fast, same losses).

Both have the learning rate, schedule, warm-up, weight decay, batch size, temperature and lengths of our defaults
(chosen on dev), and the same number of steps (ours may stop early), so that only the recipe differs. The seed decides
about splits where they are not given, the sample of the train queries, order and dropout. nDCG@10 and R@10 are those
of `bessemer evaluate` on the test split over the whole corpus; "general" is nDCG@10 on the half of the general set that
no choice was made on; "others" is nDCG@10 on the test splits of the sets that it was not trained on, their mean.

Every (set, contestant, seed) runs in a process of its own and is saved when done; what is there, or in the JSON, is not
run again. It takes hours. Then benchmarks/quality.json is written and the tables are printed; --write-docs puts them
into docs/results.md.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kept_runs import ROOT, KeptRuns, commits_of, write_json
from pairs import relevant_pairs
from processes import alone
from results import with_section

if TYPE_CHECKING:
    from bessemer.config import Config

EPOCHS = {"pubmedqa": 1, "scifact": 1, "or_sharc": 1, "toollens": 0.25, "cranfield": 2}
"""Fixed before the runs: one epoch keeps the peer within hours; cranfield, with the fewest queries, has two, and
toollens, with 10,500 pairs, a quarter."""
MAX_TRAIN_QUERIES = {"toollens": 4000}
FIRST_SEED = 1
OF_TEST = ("nDCG@10", "R@10")
MEASURES = (*OF_TEST, "general", "others")
OURS, PEER, UNMIXED = "bessemer", "sentence-transformers", "bessemer, not mixed"
RELATIVE_MARGIN = 0.05
CLUSTERS = "clusters"
SECTION = "quality"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--out", default=Path("out/quality"), type=Path)
    parser.add_argument("--sets", nargs="*", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--contestants", nargs="*", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--max-train-queries", type=int, help="for a trial; give it its own --out and --json")
    parser.add_argument("--json", default=ROOT / "benchmarks" / "quality.json", type=Path)
    parser.add_argument("--write-docs", action="store_true")
    given = parser.parse_args()
    runs = KeptRuns(given.out, given.json)
    for seed in range(FIRST_SEED, FIRST_SEED + given.seeds):
        for name in given.sets:
            for contestant in given.contestants:
                run_once(given, runs, name, contestant, seed)
    report = {"model": given.model, "epochs": EPOCHS, "table": table([*runs.all().values()]), "runs": runs.all()}
    write_json(given.json, report)
    lines = section(report)
    print("\n".join(lines))
    if given.write_docs:
        page = ROOT / "docs" / "results.md"
        page.write_text(with_section(page.read_text(encoding="utf-8"), SECTION, lines), encoding="utf-8")


def run_once(given: argparse.Namespace, runs: KeptRuns, name: str, contestant: str, seed: int) -> None:
    run = f"{name}/{contestant}.seed-{seed}"
    if run in runs:
        return
    print(f"+ {name}, {contestant}, seed {seed}", flush=True)
    folder = given.out / run
    settings = {
        "data": str(given.data / "beir" / name),
        "model": given.model,
        "out": str(folder / "out"),
        "workspace": str(given.out / "workspace"),
        "seed": seed,
        "finetune": {
            "num_train_epochs": EPOCHS[name],
            "max_train_queries": given.max_train_queries or MAX_TRAIN_QUERIES.get(name),
        },
    }
    others = [str(given.data / "beir" / other) for other in EPOCHS if other != name]
    result = alone(trained_and_measured, contestant, settings, others, folder, log=given.out / "output.txt")
    runs.keep(run, {"set": name, "contestant": contestant, "seed": seed, **result})
    shutil.rmtree(folder)


# ---- in the process of one contestant ----


def trained_and_measured(
    contestant: str, settings: Mapping[str, Any], others: Sequence[str], folder: Path
) -> dict[str, Any]:
    from bessemer.config import Config
    from bessemer.recipes.output import installed_versions

    config = Config.model_validate(settings)
    models, training = CONTESTANTS[contestant](config, folder)
    systems = {"base": config.model, **{name: str(model) for name, model in models.items()}}
    measured, queries = measures_of_test(config, systems)
    general = measures_of_general(config, systems)
    served = {name: model for name, model in systems.items() if name != UNMIXED}
    of_others = measures_of_others(config, served, others)
    for name, values in measured.items():
        values["general"] = general[name]
        if name in of_others:
            values["others"] = statistics.fmean(of_others[name].values())
    return {
        "measured": measured,
        "queries": queries,
        "others": of_others,
        "training": training,
        "versions": installed_versions(),
    }


def measures_of_test(config: Config, systems: Mapping[str, str]) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """system -> measure -> mean; by query, as lines in one order: measure -> system -> values, and the clusters."""
    from bessemer.recipes.evaluate import evaluate

    found = evaluate(config, [f"s{place}=dense:{model}" for place, model in enumerate(systems.values())])
    by_query, labels = found["per_query"]["systems"], {name: f"s{place}" for place, name in enumerate(systems)}
    return (
        {name: {m: found["systems"][label]["measures"][m] for m in OF_TEST} for name, label in labels.items()},
        {m: {name: line(by_query[label][m]) for name, label in labels.items()} for m in OF_TEST}
        | {CLUSTERS: line(found["per_query"]["clusters"])},
    )


def line(values: Iterable[float]) -> str:
    return " ".join(f"{value:.4f}".rstrip("0").rstrip(".") for value in values)


def measures_of_others(
    config: Config, systems: Mapping[str, str], others: Sequence[str]
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = defaultdict(dict)  # system -> set -> nDCG@10
    for other in others:
        elsewhere = config.model_copy(update={"data": other})
        for name, values in measures_of_test(elsewhere, systems)[0].items():
            found[name][Path(other).name] = values["nDCG@10"]
    return dict(found)


def measures_of_general(config: Config, systems: Mapping[str, str]) -> dict[str, float]:
    from bessemer.encoders.cache import CachedEncoder
    from bessemer.recipes.data import open_encoder
    from bessemer.recipes.general import general_source, load_general_set, measure_general

    embeddings = Path(config.workspace) / "embeddings"
    base = CachedEncoder(open_encoder(config, config.model), embeddings)
    general = load_general_set(general_source(config.evaluation), base, config.seed)
    found: dict[str, float] = {}
    for name, model in systems.items():
        tuned = CachedEncoder(open_encoder(config, model), embeddings)
        kept = measure_general(general, base, tuned, config.evaluation)
        assert kept is not None
        found[name] = kept.tuned
    return found


def bessemer(config: Config, folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    from bessemer.recipes.adapt import adapt
    from bessemer.recipes.data import open_encoder
    from bessemer.training.interpolation import mix

    training = adapt(config)["training"]
    mixed = Path(config.out) / "model"
    encoder = open_encoder(config, config.model)
    alpha = training["interpolation"]["alpha"]
    tuned = mix(encoder.copy_weights(), open_encoder(config, str(mixed)).copy_weights(), 1 / alpha)
    encoder.load_weights(tuned)
    encoder.save(folder / "not-mixed")
    account = {key: training[key] for key in ("examples", "steps", "seconds", "learning_rate")} | {"alpha": alpha}
    return {OURS: mixed, UNMIXED: folder / "not-mixed"}, account


def sentence_transformers(config: Config, folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from sentence_transformers.util import mine_hard_negatives

    from bessemer.recipes.data import load_judged, open_encoder
    from bessemer.training.arguments import LEARNING_RATE
    from bessemer.training.cpu import memory_kept

    collection = load_judged(config, require=("train", "test")).collection
    pairs = relevant_pairs(collection)
    encoder, settings = open_encoder(config, config.model), config.finetune
    model = encoder.model
    columns = dict(zip(("anchor", "positive"), map(list, zip(*pairs, strict=True)), strict=True))
    triplets = mine_hard_negatives(
        Dataset.from_dict(columns),
        model,
        corpus=[passage.indexed_text for passage in collection.passages],
        num_negatives=1,
        relative_margin=RELATIVE_MARGIN,
    )
    arguments = SentenceTransformerTrainingArguments(
        str(folder / "run"),
        max_steps=round(math.ceil(len(pairs) / settings.per_device_train_batch_size) * settings.num_train_epochs),
        per_device_train_batch_size=settings.per_device_train_batch_size,
        learning_rate=settings.learning_rate or LEARNING_RATE,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=encoder.bf16,
        use_cpu=encoder.device == "cpu",
        batch_sampler="no_duplicates",
        seed=config.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    loss = MultipleNegativesRankingLoss(model, scale=1 / settings.temperature_of(normalised=True))
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=triplets, loss=loss)
    started = time.monotonic()
    with memory_kept():
        trainer.train()
    seconds = time.monotonic() - started
    model.save(str(folder / "model"))
    return {PEER: folder / "model"}, {
        "pairs": len(pairs),
        "triplets": len(triplets),
        "steps": trainer.state.global_step,
        "seconds": seconds,
        "learning_rate": arguments.learning_rate,
        "bf16": arguments.bf16,
    }


CONTESTANTS: dict[str, Callable[..., tuple[dict[str, Path], dict[str, Any]]]] = {
    OURS: bessemer,
    PEER: sentence_transformers,
}


# ---- the tables ----


def table(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per set and measure: mean and standard deviation over seeds, and of the difference within a seed."""
    rows = []
    for name in (name for name in EPOCHS if any(result["set"] == name for result in results)):
        for measure in MEASURES:
            found: dict[str, dict[int, float]] = defaultdict(dict)  # system -> seed -> value
            for result in (result for result in results if result["set"] == name):
                for system, values in result["measured"].items():
                    if measure in values:
                        found[system][result["seed"]] = values[measure]
            both = found[OURS].keys() & found[PEER].keys()
            found["difference"] = {seed: found[OURS][seed] - found[PEER][seed] for seed in both}
            systems = {system: spread(values.values()) for system, values in found.items() if values}
            if pairs := by_query(results, name, measure):
                systems["difference"] |= {"interval": interval([*pairs.values()]), "seeds_by_query": [*pairs]}
            rows.append({"set": name, "measure": measure, **systems})
    return rows


def by_query(results: Sequence[Mapping[str, Any]], name: str, measure: str) -> dict[int, tuple[Any, Any]]:
    """seed -> (difference of ours and theirs by query, clusters), where both were kept by query."""
    of_run = {
        (r["contestant"], r["seed"]): (numbers(r["queries"][measure][r["contestant"]]), numbers(r["queries"][CLUSTERS]))
        for r in results
        if r["set"] == name and measure in r.get("queries", {})
    }
    seeds = sorted(seed for contestant, seed in of_run if contestant == OURS and (PEER, seed) in of_run)
    return {seed: (of_run[OURS, seed][0] - of_run[PEER, seed][0], of_run[OURS, seed][1]) for seed in seeds}


def interval(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """95% of the mean difference, by bootstrap over the clusters of test queries, each the mean over seeds."""
    from bessemer.measures import paired_bootstrap

    return paired_bootstrap(np.mean([differences for differences, _ in pairs], axis=0), pairs[0][1])


def numbers(line: str) -> np.ndarray:
    return np.array(line.split(" "), dtype=np.float64)


def spread(values: Iterable[float]) -> dict[str, Any]:
    known = list(values)
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "standard_deviation": deviation, "n_seeds": len(known)}


def section(report: Mapping[str, Any]) -> list[str]:
    results = [*report["runs"].values()]
    seeds = sorted({result["seed"] for result in results})
    lines = [
        "## Against sentence-transformers' recipe",
        "",
        "Written by `python benchmarks/quality.py --data $BESSEMER_DATA --write-docs`; all figures:",
        "`benchmarks/quality.json`. The same base, pairs, number of steps, learning rate, schedule, batch size and",
        "temperature, none chosen by a test figure; one evaluation for all. sentence-transformers: one negative per",
        f"pair by its mine_hard_negatives (relative_margin={RELATIVE_MARGIN}), MultipleNegativesRankingLoss,",
        'NO_DUPLICATES. bessemer: `bessemer adapt`; "not mixed" is its model before the weights are mixed with the',
        f"base's. Seeds {', '.join(map(str, seeds))}, where they were run: mean and standard deviation, or one seed",
        "where none stands. The difference is bessemer - sentence-transformers over the seeds that both have, with a",
        "95% interval by bootstrap over clusters of the test queries, of the seeds in parentheses (not every run was",
        "kept by query).",
        "Epochs: " + ", ".join(f"{name} {n}" for name, n in report["epochs"].items()) + ".",
        f"Measured at commit {commits_of(report['runs'])}.",
        "",
    ]
    titles = dict(zip(MEASURES, ("nDCG@10", "R@10", "nDCG@10, general set", "nDCG@10, other sets"), strict=True))
    columns = ("base", PEER, UNMIXED, OURS, "difference")
    for measure, title in titles.items():
        lines += [f"| {title} | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
        for row in (row for row in report["table"] if row["measure"] == measure):
            cells = [in_words(row.get(column), signed=column == "difference") for column in columns]
            lines.append(f"| {row['set']} | {' | '.join(cells)} |")
        lines.append("")
    return [*lines, average(report["table"]), "", *forgetting(results)]


def average(rows: Sequence[Mapping[str, Any]]) -> str:
    """Over the sets, each of them weighing the same."""
    of = {
        m: [row["difference"]["mean"] for row in rows if row["measure"] == m and "difference" in row] for m in OF_TEST
    }
    means = [f"{statistics.fmean(found):+.4f} {measure}" for measure, found in of.items() if found]
    return f"The difference on average over the sets that both have: {', '.join(means)}."


def forgetting(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tuning on one set gains or costs on each, mean over seeds."""
    lines = ["What tuning by bessemer on one set (row) changes on the test split of each (column), nDCG@10 - base:", ""]
    names = [name for name in EPOCHS if any(result["set"] == name for result in results)]
    lines += [f"| | {' | '.join(EPOCHS)} |", "|---|" + "---|" * len(EPOCHS)]
    for name in names:
        rows = [result for result in results if (result["set"], result["contestant"]) == (name, OURS)]
        cells = []
        for other in EPOCHS:
            changes = [on_set(row, OURS, other) - on_set(row, "base", other) for row in rows]
            cells.append(f"{statistics.fmean(changes):+.4f}" if changes else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def on_set(row: Mapping[str, Any], system: str, name: str) -> float:
    found: float = row["measured"][system]["nDCG@10"] if row["set"] == name else row["others"][system][name]
    return found


def in_words(found: Mapping[str, Any] | None, *, signed: bool) -> str:
    if found is None:
        return ""
    mean = f"{found['mean']:+.4f}" if signed else f"{found['mean']:.4f}"
    deviation = f" ± {found['standard_deviation']:.4f}" if found["standard_deviation"] else ""
    if "interval" not in found:
        return mean + deviation
    low, high = found["interval"]
    return f"{mean}{deviation} [{low:+.4f}, {high:+.4f}] ({', '.join(map(str, found['seeds_by_query']))})"


if __name__ == "__main__":
    main()
