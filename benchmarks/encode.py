"""Encoding speed against plain sentence-transformers, side by side in one run, and what the speed costs in quality.

    python benchmarks/encode.py --data $BESSEMER_DATA/beir/pubmedqa [--json encode.json]

Up to 2,000 passages of a BEIR folder, text to vectors. "sentence-transformers" is SentenceTransformer.encode with its
defaults (batches of 32, fp32); "bessemer" is encode_passages with its defaults. After a warm-up of each, rounds
alternate; the ratio is that of the median times. Run it on a machine with nothing else to do. Promise on a CPU with
native bf16: ratio >= 3, minimum cosine >= 0.999, nDCG@10 within 0.002.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.encoders.load import load_encoder
from bessemer.encoders.precision import lowest_cosine
from bessemer.formats.beir import read_beir
from bessemer.measures import per_query
from bessemer.search.exact import ExactSearch
from bessemer.types import Collection
from machine import machine


def seconds_of(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def mean_ndcg(collection: Collection, queries: np.ndarray, passages: np.ndarray, ids: list[str]) -> tuple[float, int]:
    """Mean nDCG@10 over the test queries with a relevant passage among ``ids``, and their number."""
    test, kept = collection.splits["test"], set(ids)
    qrels = {
        query_id: {passage_id: grade for passage_id, grade in grades.items() if passage_id in kept}
        for query_id, grades in test.qrels.items()
    }
    judged = [query.query_id for query in test.queries if any(grade > 0 for grade in qrels[query.query_id].values())]
    scores, rows = ExactSearch(passages).top_k(queries, 10)
    results = {
        query.query_id: [(ids[row], float(score)) for row, score in zip(rows[i], scores[i], strict=True)]
        for i, query in enumerate(test.queries)
    }
    values = per_query(results, qrels, judged, ["nDCG@10"])["nDCG@10"]
    return statistics.fmean(values.values()), len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="BEIR folder")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--n-passages", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    facts = machine()
    collection = read_beir(arguments.data).collection
    passages = collection.passages[: arguments.n_passages]
    ids, texts = [passage.passage_id for passage in passages], [passage.indexed_text for passage in passages]
    queries = [query.text for query in collection.splits["test"].queries]
    plain = load_encoder(arguments.model, device="cpu", bf16=False).model
    ours = load_encoder(arguments.model, device="cpu")

    sides: dict[str, Callable[[list[str]], np.ndarray]] = {
        "sentence-transformers": lambda batch: plain.encode(batch),
        "bessemer": lambda batch: ours.encode_passages(batch).dense,
    }
    vectors = {name: encode(texts) for name, encode in sides.items()}  # warm-up, and what quality is measured on
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(arguments.rounds):
        for name, encode in sides.items():
            times[name].append(seconds_of(lambda encode=encode: encode(texts)))
    per_second = {name: len(texts) / statistics.median(values) for name, values in times.items()}

    before, n_queries = mean_ndcg(collection, plain.encode_query(queries), vectors["sentence-transformers"], ids)
    after, _ = mean_ndcg(collection, ours.encode_queries(queries).dense, vectors["bessemer"], ids)
    report = {
        "data": Path(arguments.data).name,
        "model": arguments.model,
        "n_passages": len(texts),
        "mean_tokens": statistics.fmean(len(row) for row in ours.tokenize(texts, "passage")),
        "passages_per_second": per_second,
        "ratio": per_second["bessemer"] / per_second["sentence-transformers"],
        "best_ratio": min(times["sentence-transformers"]) / min(times["bessemer"]),
        "seconds": times,
        "bf16_used": ours.bf16,
        "min_cosine": lowest_cosine(vectors["bessemer"], vectors["sentence-transformers"]),
        "nDCG@10": {"sentence-transformers": before, "bessemer": after, "difference": after - before},
        "n_queries": n_queries,
        "machine": facts,
    }
    print(json.dumps(report, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
