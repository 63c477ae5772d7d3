"""CPU builds against SentenceTransformer.encode and our own torch encoder: single queries, batches, and quality.

    python benchmarks/cpu_builds.py --data $BESSEMER_DATA --out out/cpu-builds [--write-docs]

Of each set: its queries one at a time (p50 and p95 in milliseconds, contestants in turn, so that a slow moment hits
all), its passages together, the least and the mean cosine of a query's vector with sentence-transformers' own, and
of sets of at most 2,000 passages nDCG@10 on dev over the passages that `bessemer export` measures on. The int8 schemes
are measured one by one; `bessemer export` takes the first that loses no more than --max-loss. Threads: two, of all
contestants. Run it on a machine with nothing else to do. Promise: the fastest build that passes the gate encodes a
single query at least 3 times as fast as SentenceTransformer.encode.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from machine import machine
from results import with_section

ROOT = Path(__file__).resolve().parent.parent
SECTION = "cpu_builds"
SETS = ("scifact", "or_sharc")
MOST_PASSAGES = 2_000
"""Of a set whose nDCG@10 is measured: with more, seven encoders would take the better part of an hour."""
PEER, TORCH = "SentenceTransformer.encode", "bessemer, torch"
THREADS = "2"
IN_A_ROW, WARM_UP, REST_SECONDS = 10, 5, 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--out", default=Path("out/cpu-builds"), type=Path)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--n-queries", type=int, default=100, help="timed, of each set")
    parser.add_argument("--n-passages", type=int, default=256, help="encoded together, of each set")
    parser.add_argument("--without-ndcg", action="store_true", help="for a trial")
    parser.add_argument("--json", default=ROOT / "benchmarks" / "cpu_builds.json", type=Path)
    parser.add_argument("--write-docs", action="store_true")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = THREADS  # before any engine reads it
    import torch

    torch.set_num_threads(int(THREADS))
    source, builds = made(given.model, given.out)
    rows = [measured(given, name, source, builds) for name in given.sets]
    report = {"model": given.model, "threads": int(THREADS), "sets": rows, "machine": machine()}
    given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    lines = section(report)
    print("\n".join(lines))
    if given.write_docs:
        page = ROOT / "docs" / "export.md"
        page.write_text(with_section(page.read_text(encoding="utf-8"), SECTION, lines), encoding="utf-8")


def made(model: str, out: Path) -> tuple[Any, dict[str, Any]]:
    """The model, and a build for every backend and scheme without a gate."""
    from bessemer.encoders.cpu.manifest import GRAPHS, TOKENIZER, write_build
    from bessemer.encoders.cpu.open import open_build
    from bessemer.encoders.load import load_encoder
    from bessemer.recipes.export import attempts, build_of

    source = load_encoder(model, device="cpu", bf16=False)
    builds = {}
    for backend in GRAPHS:
        folder = out / backend
        folder.mkdir(parents=True, exist_ok=True)
        for scheme, built in attempts(source, backend, _emptied(folder)):
            assert (built / TOKENIZER).is_file()
            write_build(built, build_of(model, source, backend, built))
            builds[f"{backend} ({scheme})" if backend == "onnx-int8" else backend] = open_build(built)
    return source, builds


def _emptied(folder: Path) -> Path:
    import shutil

    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def measured(given: argparse.Namespace, name: str, source: Any, builds: Mapping[str, Any]) -> dict[str, Any]:
    from bessemer.formats import load_collection

    loaded = load_collection(str(given.data / "beir" / name), seed=42, require=("dev",))
    collection = loaded.collection
    texts = [query.searched_text for judged in collection.splits.values() for query in judged.queries]
    queries = texts[:: max(1, len(texts) // given.n_queries)][: given.n_queries]
    passages = [passage.indexed_text for passage in collection.passages[: given.n_passages]]
    encoders = {TORCH: source, **builds}
    single: dict[str, Callable[[str], Any]] = {PEER: source.model.encode}
    single |= {name: (lambda text, e=encoder: e.encode_queries([text])) for name, encoder in encoders.items()}
    together: dict[str, Callable[[], Any]] = {PEER: lambda: source.model.encode(passages)}
    together |= {name: (lambda e=encoder: e.encode_passages(passages)) for name, encoder in encoders.items()}
    milliseconds = in_turn(single, queries)
    exact = source.model.encode_query(queries)
    rows: dict[str, dict[str, float]] = {}
    for contestant, times in milliseconds.items():
        p50, p95 = float(np.quantile(times, 0.5)), float(np.quantile(times, 0.95))
        rows[contestant] = {
            "p50_ms": p50,
            "p95_ms": p95,
            "passages_per_second": len(passages) / seconds(together[contestant]),
        }
    for contestant, encoder in encoders.items():
        vectors = encoder.encode_queries(queries).dense
        cosines = (vectors * exact).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(exact, axis=1)
        rows[contestant] |= {"lowest_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
    for row in rows.values():
        row["ratio"] = rows[PEER]["p50_ms"] / row["p50_ms"]
    is_small = len(collection.passages) <= MOST_PASSAGES
    statement = add_ndcg(rows, encoders, collection) if is_small and not given.without_ndcg else ""
    return {"set": name, "n_queries": len(queries), "n_passages": len(passages), "dev": statement, "contestants": rows}


def add_ndcg(rows: dict[str, dict[str, float]], encoders: Mapping[str, Any], collection: Any) -> str:
    """nDCG@10 of every encoder, and of its queries over the source's passages; what it was measured on."""
    from bessemer.measures import per_query
    from bessemer.recipes.systems import bm25_over, dense_over
    from bessemer.search.retriever import DenseRetriever
    from bessemer.training.dev_pool import build_dev_pool

    dev, passages = collection.splits["dev"], collection.passages
    texts = [query.searched_text for query in dev.queries]
    found = [r.search(texts, 100) for r in (bm25_over(passages), dense_over(passages, encoders[TORCH]))]
    pool = build_dev_pool(dev, passages, found, seed=42)
    ids, pooled = [p.passage_id for p in pool.passages], [p.indexed_text for p in pool.passages]
    of_source = encoders[TORCH].encode_passages(pooled).dense

    def ndcg(encoder: Any, vectors: Any) -> float:
        hits = DenseRetriever(encoder, ids, vectors).search([q.searched_text for q in pool.queries], 10)
        results = {query.query_id: found for query, found in zip(pool.queries, hits, strict=True)}
        values = per_query(results, pool.qrels, list(results), ["nDCG@10"])["nDCG@10"]
        return statistics.fmean(values.values())

    for name, encoder in encoders.items():
        rows[name]["nDCG@10"] = ndcg(encoder, encoder.encode_passages(pooled).dense)
        rows[name]["nDCG@10 over the source's passages"] = ndcg(encoder, of_source)
    return pool.statement


def in_turn(contestants: Mapping[str, Callable[[str], Any]], queries: list[str]) -> dict[str, list[float]]:
    """Milliseconds of every query: IN_A_ROW of them by one contestant, then by the next, each time after a rest and a
    warm-up. Threads of an engine spin for a while after its last query: in the next one's time, were there no rest."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for start in range(0, len(queries), IN_A_ROW):
        some = queries[start : start + IN_A_ROW]
        for name, function in contestants.items():
            time.sleep(REST_SECONDS)
            for query in queries[:WARM_UP]:
                function(query)
            times[name] += [1000 * seconds(lambda f=function, q=query: f(q)) for query in some]
    return times


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def section(report: Mapping[str, Any]) -> list[str]:
    load = report["machine"]["load_average"][0]
    lines = [f"`python benchmarks/cpu_builds.py`; {report['model']}, {report['threads']} threads, load {load:.1f}.", ""]
    shown = (
        "p50_ms",
        "p95_ms",
        "ratio",
        "passages_per_second",
        "lowest_cosine",
        "nDCG@10",
        "nDCG@10 over the source's passages",
    )
    formats = ("{:.2f}", "{:.2f}", "{:.1f}x", "{:.0f}", "{:.5f}", "{:.4f}", "{:.4f}")
    for row in report["sets"]:
        lines += [f"**{row['set']}** ({row['dev'] or 'nDCG@10 not measured'})", ""]
        lines += [
            "| | p50 ms | p95 ms | ratio | passages/s | lowest cosine | nDCG@10 | queries only |",
            "|---|" + "---|" * 7,
        ]
        for name, found in row["contestants"].items():
            cells = [f.format(found[key]) if key in found else "" for key, f in zip(shown, formats, strict=True)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return lines


if __name__ == "__main__":
    main()
