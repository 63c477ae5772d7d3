"""Memory and time of exact mining, vectors in place: the 100 best of 100,000 for each of 10,000 queries.

    python benchmarks/mine.py [--json benchmarks/mine.json]

Random unit vectors, passage i relevant to query i, no encoding. "retrieval" is the search alone, "mining" all of
`mine_hard_negatives`: 4 negatives per query out of the 100, no margin.

- "bessemer": `bessemer.search.exact.ExactSearch`, and `bessemer.negatives.mine_hard_negatives` with an encoder that
  gives the vectors.
- "sentence-transformers": its `mine_hard_negatives` with a model that gives the vectors; retrieval is its part from the
  first product to the last selection. Without faiss, which is its default.
- "plain": one whole product and argpartition per 500 queries, run on a tenth of the queries.

Each is a fresh process; rounds alternate, a ratio is the median of those within the rounds. Memory is the peak above
what the process held with the vectors in place, results included. Promises: retrieval under 256 MiB, at most a quarter
of sentence-transformers', and 1.5 times as fast. Run it on a machine with nothing else to do: about 5 minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from processes import alone

PAGE = 4096
N_NEGATIVES = 4
TARGET_MIB = 256
TARGET_SPEED, TARGET_MEMORY = 1.5, 0.25


@dataclass(frozen=True)
class Size:
    n_queries: int
    n_passages: int
    width: int
    top_k: int

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        return unit_vectors(self.n_queries, self.width, 0), unit_vectors(self.n_passages, self.width, 1)

    @property
    def tenth(self) -> int:
        return max(1, self.n_queries // 10)


def unit_vectors(n: int, width: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


class PeakMemory:
    """Peak resident MiB while the block runs, sampled every 2 ms, above those at its start. Linux only."""

    def __enter__(self) -> PeakMemory:
        self.start = self.peak = self._resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def above_start(self) -> float:
        return (self.peak - self.start) / 2**20

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, self._resident())

    @staticmethod
    def _resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


# ---- the contestants, each in a process of its own ----


def plain(size: Size) -> dict[str, Any]:
    queries, passages = size.vectors()
    found = []
    started = time.perf_counter()
    for start in range(0, size.tenth, 500):
        scores = queries[start : min(start + 500, size.tenth)] @ passages.T
        best = np.argpartition(scores, -size.top_k, axis=1)[:, -size.top_k :]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        found.append(np.take_along_axis(best, order, axis=1))
    seconds = (time.perf_counter() - started) * size.n_queries / size.tenth
    return {"retrieval_seconds": seconds, "first": np.concatenate(found)}


def bessemer(size: Size) -> dict[str, Any]:
    from bessemer.search.exact import ExactSearch

    queries, passages = size.vectors()
    ExactSearch(passages[:9000]).top_k(queries[:600], size.top_k)  # threads and buffers of the linear algebra are there
    with PeakMemory() as memory:
        started = time.perf_counter()
        _, found = ExactSearch(passages).top_k(queries, size.top_k)
        seconds = time.perf_counter() - started
    return {"retrieval_seconds": seconds, "retrieval_mib": memory.above_start, "first": found[: size.tenth]}


def bessemer_mining(size: Size) -> dict[str, Any]:
    from bessemer.config import NegativesConfig
    from bessemer.encoders.encoder import Encoded
    from bessemer.negatives import mine_hard_negatives
    from bessemer.search.exact import ExactSearch
    from bessemer.types import Judged, Passage, Query

    class Precomputed:
        similarity = "cosine"

        def encode_queries(self, _: Any) -> Encoded:
            return Encoded(dense=queries)

        def encode_passages(self, _: Any) -> Encoded:
            return Encoded(dense=passages)

    queries, passages = size.vectors()
    ExactSearch(passages[:9000]).top_k(queries[:600], size.top_k)
    corpus = [Passage(f"p{i}", f"p{i}", f"passage {i}") for i in range(size.n_passages)]
    numbers = range(size.n_queries)
    judged = Judged(tuple(Query(f"q{i}", f"query {i}") for i in numbers), {f"q{i}": {f"p{i}": 1} for i in numbers})
    config = NegativesConfig(n_negatives=N_NEGATIVES, range_max=size.top_k, relative_margin=0.0)
    with PeakMemory() as memory:
        started = time.perf_counter()
        mined = mine_hard_negatives(judged, corpus, Precomputed(), config).negatives
        seconds = time.perf_counter() - started
    negatives = {f"query {row.query_id[1:]}": [f"passage {one[1:]}" for one in row.passage_ids] for row in mined}
    return {"mining_seconds": seconds, "mining_mib": memory.above_start, "negatives": negatives}


def sentence_transformers(size: Size) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from sentence_transformers.util import cos_sim, mine_hard_negatives, pairwise_cos_sim

    class Precomputed:
        """What `mine_hard_negatives` asks of a model. Cosines are computed as by a SentenceTransformer; the first
        product begins retrieval, and the positives' own scores are asked for when it has ended."""

        device = torch.device("cpu")

        def encode_query(self, *_: Any, **__: Any) -> np.ndarray:
            return queries

        def encode_document(self, *_: Any, **__: Any) -> np.ndarray:
            return passages

        def similarity(self, some: np.ndarray, all_passages: torch.Tensor) -> torch.Tensor:
            self.started = getattr(self, "started", time.perf_counter())
            return cos_sim(some, all_passages)

        def similarity_pairwise(self, some: np.ndarray, others: np.ndarray) -> torch.Tensor:
            self.ended, self.mib = time.perf_counter(), memory.above_start
            return pairwise_cos_sim(some, others)

    queries, passages = size.vectors()
    cos_sim(queries[:600], passages[:9000])
    corpus = [f"passage {i}" for i in range(size.n_passages)]
    pairs = {"query": [f"query {i}" for i in range(size.n_queries)], "positive": corpus[: size.n_queries]}
    dataset, model = Dataset.from_dict(pairs), Precomputed()
    with PeakMemory() as memory:
        started = time.perf_counter()
        mined = mine_hard_negatives(
            dataset, model, corpus=corpus, range_max=size.top_k, num_negatives=N_NEGATIVES, output_format="n-tuple"
        )
        seconds = time.perf_counter() - started
    columns = [mined[f"negative_{i + 1}"] for i in range(N_NEGATIVES)]
    return {
        "retrieval_seconds": model.ended - model.started,
        "retrieval_mib": model.mib,
        "mining_seconds": seconds,
        "mining_mib": memory.above_start,
        "negatives": dict(zip(mined["query"], map(list, zip(*columns, strict=True)), strict=True)),
    }


def one_round(run: Callable[..., dict[str, Any]], size: Size) -> dict[str, dict[str, Any]]:
    """Our two parts are two processes: what the first had freed would hide what the second takes."""
    return {
        "bessemer": run(bessemer, size) | run(bessemer_mining, size),
        "sentence-transformers": run(sentence_transformers, size),
        "plain": run(plain, size),
    }


# ---- the run ----


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-queries", type=int, default=10_000)
    parser.add_argument("--n-passages", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out/mine"), help="folder for the output of the contestants")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    size = Size(given.n_queries, given.n_passages, given.width, given.top_k)
    run = partial(alone, log=given.out / "output.txt")
    rounds = [one_round(run, size) for _ in range(given.rounds)]
    ours, theirs = rounds[0]["bessemer"], rounds[0]["sentence-transformers"]
    result = {
        "n_queries": size.n_queries,
        "n_passages": size.n_passages,
        "width": size.width,
        "top_k": size.top_k,
        "rounds": given.rounds,
        "vectors_mib": round(4 * size.width * (size.n_queries + size.n_passages) / 2**20, 1),
        "retrieval": compared(rounds, "retrieval")
        | {
            "plain_seconds": median(rounds, "plain", "retrieval_seconds"),
            "speed_over_plain": ratio(rounds, "plain", "bessemer", "retrieval_seconds"),
            "same_as_plain": round(float(np.mean(ours["first"] == rounds[0]["plain"]["first"])), 6),
            "targets": {"mib": TARGET_MIB, "speed_ratio": TARGET_SPEED, "memory_ratio": TARGET_MEMORY},
        },
        "mining": compared(rounds, "mining") | {"same_negatives": same_share(ours["negatives"], theirs["negatives"])},
    }
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def compared(rounds: list[dict[str, Any]], part: str) -> dict[str, Any]:
    """Seconds and MiB of both, their medians; how much faster we are, and which share of the memory we take."""
    ours, theirs = "bessemer", "sentence-transformers"
    return {
        "seconds": {name: median(rounds, name, f"{part}_seconds") for name in (ours, theirs)},
        "peak_over_vectors_mib": {name: median(rounds, name, f"{part}_mib") for name in (ours, theirs)},
        "speed_ratio": ratio(rounds, theirs, ours, f"{part}_seconds"),
        "memory_ratio": ratio(rounds, ours, theirs, f"{part}_mib"),
    }


def median(rounds: list[dict[str, Any]], name: str, key: str) -> float:
    return round(statistics.median(one[name][key] for one in rounds), 2)


def ratio(rounds: list[dict[str, Any]], name: str, other: str, key: str) -> float:
    """The median over rounds of ``name`` over ``other``."""
    return round(statistics.median(one[name][key] / one[other][key] for one in rounds), 3)


def same_share(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> float:
    """Of the negatives of all queries, how many both have at the same rank."""
    same = [a == b for query, found in ours.items() for a, b in zip(found, theirs[query], strict=True)]
    return round(statistics.fmean(same), 6)


if __name__ == "__main__":
    main()
