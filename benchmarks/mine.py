"""Memory and time of exact search as mining uses it: the 100 best of 100,000 vectors for each of 10,000 queries.

    python benchmarks/mine.py [--json mine.json]

Reports the peak of the process above what it held with the vectors in place (promise: under 256 MiB, the result
included), and the time against the plain way, one whole product and argpartition per 500 queries, run on a tenth of the
queries.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import numpy as np

from bessemer.search.exact import top_k

PAGE = 4096


class PeakMemory:
    """Peak resident bytes while the block runs, sampled every 2 ms, above those at its start. Linux only."""

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
    def above_start(self) -> int:
        return self.peak - self.start

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, self._resident())

    @staticmethod
    def _resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def plain(queries: np.ndarray, passages: np.ndarray, k: int) -> np.ndarray:
    found = []
    for start in range(0, len(queries), 500):
        scores = queries[start : start + 500] @ passages.T
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)


def unit_vectors(n: int, width: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-queries", type=int, default=10_000)
    parser.add_argument("--n-passages", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    queries = unit_vectors(given.n_queries, given.width, 0)
    passages = unit_vectors(given.n_passages, given.width, 1)
    top_k(queries[:600], passages[:9000], given.top_k)  # threads and buffers of the linear algebra are there
    with PeakMemory() as memory:
        started = time.perf_counter()
        _, indices = top_k(queries, passages, given.top_k)
        seconds = time.perf_counter() - started
    tenth = queries[: max(1, given.n_queries // 10)]
    started = time.perf_counter()
    expected = plain(tenth, passages, given.top_k)
    plain_seconds = (time.perf_counter() - started) * given.n_queries / len(tenth)
    result = {
        "n_queries": given.n_queries,
        "n_passages": given.n_passages,
        "vectors_mib": round((queries.nbytes + passages.nbytes) / 2**20, 1),
        "peak_over_vectors_mib": round(memory.above_start / 2**20, 1),
        "seconds": round(seconds, 2),
        "plain_seconds": round(plain_seconds, 2),
        "speed_over_plain": round(plain_seconds / seconds, 2),
        "same_as_plain": round(float(np.mean(indices[: len(tenth)] == expected)), 6),
    }
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
