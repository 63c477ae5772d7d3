"""Three representations of one model, before and after tuning: dense, sparse, multi-vector and their ensemble.

    python benchmarks/representations.py --data $BESSEMER_DATA --out out/representations [--write-docs]

Start: minilm, for cmrc2018 a small BERT pre-trained here on the texts (small_encoder.py). "before": heads as they
begin, nothing trained. Then `bessemer finetune --head unified`, with and without self-distillation, the epochs below,
otherwise its defaults; checkpoint and shares are chosen on dev, the weights of the ensemble too, and those of dense and
BM25 as `bessemer index --fusion-data` chooses them. nDCG@10 on test over the whole corpus, exact search. Differences:
per query, averaged over seeds, with a 95% interval by paired bootstrap. One of the tuned models is indexed, and what
`bessemer search --explain` prints for a dev query is kept.
Every run is kept; what is there, or in the JSON, is not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kept_runs import ROOT, KeptRuns, commits_of, write_json
from results import with_section
from small_encoder import small_encoder

EPOCHS = {"pubmedqa": 1, "scifact": 1, "or_sharc": 1, "cranfield": 2, "cmrc2018": 4}
KINDS = {"plain": "--no-self-distillation", "self-distilled": "--self-distillation"}
LANES = ("dense", "sparse", "multi", "ensemble")
BY_RANK, WEIGHTED = "dense+bm25", "dense+bm25, weighted"
BEST, AVERAGE = "best part", "average"
SYSTEMS = ("bm25", BY_RANK, WEIGHTED, *LANES)
OF_RUNS = {"bm25": "bm25", "h": BY_RANK, "u.dense": "dense", "u.sparse": "sparse", "u.multi": "multi", "u": "ensemble"}
"""What `bessemer evaluate` calls them, and this table."""
EXPLAINED = "cranfield/self-distilled.seed-1"
QUESTION = "where can i find pressure data on surfaces of swept cylinders"
FIRST_SEED = 1
SECTION = "representations"
MEASURE = "nDCG@10"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", default=Path("out/representations"), type=Path)
    parser.add_argument("--sets", nargs="*", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write-docs", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = ROOT / "benchmarks" / "representations.json"
    runs = KeptRuns(given.out, file)
    for name in given.sets:
        before(given, runs, name)
    for seed in range(FIRST_SEED, FIRST_SEED + given.seeds):
        for name in given.sets:
            for kind in KINDS:
                after(given, runs, name, kind, seed)
    queries = {run["set"]: run["queries"] for run in runs.all().values() if "queries" in run}
    results = [unpacked(run, queries[run["set"]]) for run in runs.all().values()]
    found = {"table": table(results), "differences": differences(results), "self_distillation": gains(results)}
    report = {"epochs": EPOCHS, **found, "runs": runs.all()}
    write_json(file, report)
    lines = section(report)
    print("\n".join(lines))
    if given.write_docs:
        page = ROOT / "docs" / "results.md"
        page.write_text(with_section(page.read_text(encoding="utf-8"), SECTION, lines), encoding="utf-8")


def start_of(name: str, data: Path, out: Path) -> str:
    if name != "cmrc2018":
        return "minilm"
    return str(small_encoder(texts_of(data / "beir" / name), out / "small-encoder"))


def texts_of(beir: Path) -> list[str]:
    from bessemer.formats import load_collection

    return [passage.indexed_text for passage in load_collection(str(beir)).collection.passages]


def before(given: argparse.Namespace, runs: KeptRuns, name: str) -> None:
    """The heads as they begin; with the test queries of the set, which the other runs share."""
    if f"{name}/before" in runs:
        return
    from bessemer.encoders.load import load_encoder
    from bessemer.encoders.sparse_start import with_heads

    out, beir = given.out / name, given.data / "beir" / name
    model, start = out / "before", start_of(name, given.data, given.out)
    with_heads(load_encoder(start, device="cpu"), texts_of(beir), 0).save(model)
    runs.keep(f"{name}/before", {"set": name, "kind": "before", "seed": None, **measured(out, beir, model)})


def after(given: argparse.Namespace, runs: KeptRuns, name: str, kind: str, seed: int) -> None:
    run = f"{name}/{kind}.seed-{seed}"
    if run in runs:
        return
    out, beir, model = given.out / name, given.data / "beir" / name, given.out / run
    start = start_of(name, given.data, given.out)
    bessemer(
        out, "finetune", "--data", beir, "--model", start, "--head", "unified", KINDS[kind], "--out", model,
        "--seed", seed, "--num-train-epochs", EPOCHS[out.name], "--eval-steps", 0.5,
    )  # fmt: skip
    training = json.loads((model / "training.json").read_text())
    account = {key: training[key] for key in ("examples", "steps", "seconds", "examples_per_second")}
    what = {"set": name, "kind": kind, "seed": seed, "training": account}
    shown = {"explained": explained(out, beir, model)} if run == EXPLAINED else {}
    found = measured(out, beir, model)
    del found["queries"]
    runs.keep(run, {**what, **found, **shown})
    shutil.rmtree(model)


def explained(out: Path, beir: Path, model: Path) -> list[str]:
    """The lines that a person sees."""
    index = out / "index"
    bessemer(out, "index", "--data", beir, "--model", model, "--out", index)
    command = [sys.executable, "-m", "bessemer", "search", "--index", str(index), "--explain", "--top-k", "2", QUESTION]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip().split("\n")
    shutil.rmtree(index)
    return [line.rstrip() for line in lines]


def measured(out: Path, beir: Path, model: Path) -> dict[str, Any]:
    """All systems: per query, in the order of `queries` and as one line, which `unpacked` reads; and as a whole."""
    runs, dev_runs, result = out / "runs", out / "dev-runs", out / "evaluation.json"
    bessemer(
        out, "evaluate", "--data", beir, "--split", "test", "--system", "bm25=bm25", "--system", f"u=unified:{model}",
        "--system", "h=hybrid:u.dense+bm25", "--runs", runs, "--json", result,
    )  # fmt: skip
    bessemer(
        out, "evaluate", "--data", beir, "--split", "dev", "--system", "bm25=bm25",
        "--system", f"u.dense=dense:{model}", "--runs", dev_runs,
    )  # fmt: skip
    values, weights = per_query_values(beir, runs, dev_runs)
    for folder in (runs, dev_runs):
        shutil.rmtree(folder)
    ids = sorted(values["ensemble"])
    lines = {system: " ".join(f"{of_query[q]:.4g}" for q in ids) for system, of_query in values.items()}
    systems = json.loads(result.read_text())["systems"]
    return {"queries": " ".join(ids), MEASURE: lines, "fusion_weights": weights, "systems": systems}


def unpacked(run: Mapping[str, Any], queries: str) -> dict[str, Any]:
    ids = queries.split(" ")
    of_query = {s: dict(zip(ids, map(float, line.split(" ")), strict=True)) for s, line in run[MEASURE].items()}
    return {**run, MEASURE: of_query}


def per_query_values(beir: Path, runs: Path, dev_runs: Path) -> tuple[dict[str, dict[str, float]], Any]:
    """nDCG@10 by system and test query, and the weights of dense and BM25, None where ranks are no worse on dev."""
    from bessemer.formats import load_collection
    from bessemer.formats.trec import read_run
    from bessemer.measures import per_query
    from bessemer.search.fusion import weighted_fusion
    from bessemer.search.fusion_tuning import tune_fusion

    splits = load_collection(str(beir)).collection.splits
    of_dev = {name: read_run(dev_runs / f"{name}.trec").results for name in ("u.dense", "bm25")}
    lanes = {
        query_id: {name: of_dev[name].get(query_id, []) for name in of_dev} for query_id in answered(splits["dev"])
    }
    weights = tune_fusion(lanes, splits["dev"].qrels).weights
    ids, qrels = answered(splits["test"]), splits["test"].qrels
    found = {system: read_run(runs / f"{name}.trec").results for name, system in OF_RUNS.items()}
    found[WEIGHTED] = found[BY_RANK]
    if weights:
        both = [found["dense"], found["bm25"]]
        found[WEIGHTED] = {q: weighted_fusion([run.get(q, []) for run in both], list(weights.values())) for q in ids}
    return {system: per_query(run, qrels, ids, [MEASURE])[MEASURE] for system, run in found.items()}, weights


def answered(judged: Any) -> list[str]:
    """The queries that have a relevant passage."""
    return [q.query_id for q in judged.queries if any(grade > 0 for grade in judged.qrels.get(q.query_id, {}).values())]


def bessemer(out: Path, *arguments: object) -> None:
    print("+ bessemer", *arguments, flush=True)
    command = [sys.executable, "-m", "bessemer", *map(str, arguments), "--workspace", str(out / "workspace"), "--quiet"]
    subprocess.run(command, check=True)


def table(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per set and kind: mean and standard deviation over seeds, per system."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for system, values in result[MEASURE].items():
            found[result["set"], result["kind"]][system].append(statistics.fmean(values.values()))
    return [
        {"set": name, "kind": kind, **{system: spread(systems[system]) for system in SYSTEMS}}
        for name in EPOCHS
        for kind in ("before", *KINDS)
        if (systems := found.get((name, kind)))
    ]


def spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "standard_deviation": deviation, "n_seeds": len(values)}


def differences(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of the ensemble to the best of its parts (by the same test queries, which favours the part) and to both ways of
    joining dense and BM25; last on average over the sets of each kind."""
    rows, resampled = [], defaultdict(list)
    for (name, kind), means in means_of(results).items():
        best = max(LANES[:-1], key=lambda lane: means[lane].mean())
        for column, other in {BEST: best, BY_RANK: BY_RANK, WEIGHTED: WEIGHTED}.items():
            difference = means["ensemble"] - means[other]
            drawn = resamples(difference)
            resampled[kind, column].append((difference.mean(), drawn))
            rows.append({"set": name, "kind": kind, "to": other, **interval(difference.mean(), drawn)})
    for (kind, column), of_sets in resampled.items():
        rows.append({"set": AVERAGE, "kind": kind, "to": f"{column}, {len(of_sets)} sets", **averaged(of_sets)})
    return rows


def gains(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Self-distilled less plain, by set and lane; last on average over the sets that have both."""
    rows, resampled, means = [], defaultdict(list), means_of(results)
    for name in (name for name in EPOCHS if all((name, kind) in means for kind in KINDS)):
        for lane in LANES:
            difference = means[name, "self-distilled"][lane] - means[name, "plain"][lane]
            drawn = resamples(difference)
            resampled[lane].append((difference.mean(), drawn))
            rows.append({"set": name, "lane": lane, **interval(difference.mean(), drawn)})
    rows += [{"set": AVERAGE, "lane": lane, **averaged(of_sets)} for lane, of_sets in resampled.items()]
    return rows


def means_of(results: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """By set and kind, then by system: the values of the test queries, in one order, each a mean over seeds."""
    grouped = defaultdict(list)
    for result in results:
        grouped[result["set"], result["kind"]].append(result[MEASURE])
    return {
        key: {s: np.mean([[run[s][q] for q in sorted(run[s])] for run in runs], axis=0) for s in SYSTEMS}
        for key, runs in sorted(grouped.items(), key=lambda one: list(EPOCHS).index(one[0][0]))
    }


def averaged(of_sets: Sequence[tuple[float, np.ndarray]]) -> dict[str, float]:
    """Over sets, each by its difference and its resamples, every set counting alike."""
    own, drawn = (np.mean(part, axis=0) for part in zip(*of_sets, strict=True))
    return interval(own, drawn)


def resamples(values: np.ndarray) -> np.ndarray:
    """The means of 10,000 draws of as many queries."""
    random = np.random.default_rng(0)
    return values[random.integers(len(values), size=(10_000, len(values)))].mean(axis=1)


def interval(difference: float, drawn: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"difference": float(difference), "ci_low": float(low), "ci_high": float(high)}


def section(report: Mapping[str, Any]) -> list[str]:
    lines = [
        "## One model, three representations",
        "",
        "Written by `python benchmarks/representations.py --data $BESSEMER_DATA --write-docs`, which says how; all",
        "figures: `benchmarks/representations.json`. nDCG@10 on test, mean and standard deviation over seeds; before:",
        "the heads as they begin, nothing trained; dense+bm25: reciprocal rank fusion, or scores with weights that the",
        "dev queries chose where these are better there. Epochs: "
        + ", ".join(f"{name} {n}" for name, n in report["epochs"].items())
        + f". Measured at commit {commits_of(report['runs'])}.",
        "",
        f"| set | tuned | {' | '.join(SYSTEMS)} |",
        "|---|---|" + "---|" * len(SYSTEMS),
    ]
    lines += [
        f"| {row['set']} | {row['kind']} | {' | '.join(in_words(row[s]) for s in SYSTEMS)} |" for row in report["table"]
    ]
    lines += ["", "The ensemble less another, per query over all seeds, with a 95% interval:", ""]
    lines += [f"| set | tuned | less the {BEST} | less {BY_RANK} | less {WEIGHTED} |", "|---|---|---|---|---|"]
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in report["differences"]:
        pairs[row["set"], row["kind"]].append(f"{shown(row)} ({row['to']})")
    lines += [f"| {name} | {kind} | {' | '.join(cells)} |" for (name, kind), cells in pairs.items()]
    lines += ["", "Self-distilled less plain, likewise:", ""]
    lines += [f"| set | {' | '.join(LANES)} |", "|---|" + "---|" * len(LANES)]
    by_lane = {(row["set"], row["lane"]): shown(row) for row in report["self_distillation"]}
    for name in dict.fromkeys(name for name, _ in by_lane):
        lines.append(f"| {name} | {' | '.join(by_lane[name, lane] for lane in LANES)} |")
    return lines + explanation(report["runs"].get(EXPLAINED))


def shown(row: Mapping[str, Any]) -> str:
    return f"{row['difference']:+.4f} [{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]"


def explanation(run: Mapping[str, Any] | None) -> list[str]:
    if run is None:
        return []
    told = f"The model of {EXPLAINED.replace('/', ', ').replace('.', ', ')}, indexed, and asked a dev query:"
    return [
        "",
        told,
        "",
        "```",
        f'$ bessemer search --index INDEX --explain --top-k 2 "{QUESTION}"',
        *run["explained"],
        "```",
    ]


def in_words(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:.4f}" + (f" ± {found['standard_deviation']:.4f}" if found["standard_deviation"] else "")


if __name__ == "__main__":
    main()
