"""The engines of an index side by side: speed, recall, memory and disk at 10,000 and 100,000 passages.

    python benchmarks/search.py [--passages 10000 100000] [--json benchmarks/search.json] [--write-docs]

Passages are docstrings of the installed libraries, 62 words each, that overlap where there are too few; their vectors
of 384 numbers are given: unit vectors around 300 centres, seeded. Queries are noisy copies of passages, with eight of
the passage's words. 100 hits each, one query at a time; "hybrid" is dense and BM25 joined by rank; "filtered" is dense
with a condition on a text and one on a number that together leave a tenth of the passages. Every engine is filled in
one process and searched in another. "opened" ends when the generation is open, "answered" when it has given its first
hybrid answer. A lane that is slow is asked fewer queries, 5 at least (`queries`).

"whole index" is `bessemer index` and `bessemer search` with the default engine, but for the model, whose vectors are
given: text analysis, word counts, batches, fusion and the passages themselves included.

Targets for the default engine on two quiet cores at 100,000: hybrid under 15 ms (p50) and 40 ms (p95), 5,000 passages
indexed per second, opened in a second. Run it on a machine with nothing else to do: about 10 minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from bessemer.search.stores.store import Condition, Engine, Layout, Stored
from processes import alone, peak_memory_mib
from results import with_section

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("files", "qdrant-edge", "milvus")
DIMENSION, CENTRES, N_QUERIES, QUERY_WORDS, TOP_K, BATCH = 384, 300, 200, 8, 100, 2000
SECONDS_PER_LANE, FEWEST = 20.0, 5
GENERATION = "generation-benchmark"
WHERE = (Condition("lang", "=", ("en",)), Condition("year", ">=", (2020,)))
SECTION = "search"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write-docs", action="store_true", help="the table of --json into docs/engines.md")
    arguments = parser.parse_args()
    measured: dict[str, Any] = {"sizes": {}, "whole index": {}}
    for n_passages in arguments.passages:
        with tempfile.TemporaryDirectory() as folder:
            measured["machine"] = alone(prepare, n_passages, Path(folder), log=Path(folder) / "log")
            rows = measured["sizes"][str(n_passages)] = {}
            for name in arguments.engines:
                log = Path(tempfile.gettempdir()) / f"search-{name}.log"
                rows[name] = alone(index, name, Path(folder), log=log) | alone(search, name, Path(folder), log=log)
                print(n_passages, name, json.dumps(rows[name]), flush=True)
            measured["whole index"][str(n_passages)] = alone(whole_index, Path(folder), log=Path(folder) / "log")
            print(n_passages, "whole index", json.dumps(measured["whole index"][str(n_passages)]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n")
    if arguments.write_docs:
        page = ROOT / "docs" / "engines.md"
        page.write_text(with_section(page.read_text(), SECTION, table(measured)))


def prepare(n_passages: int, folder: Path) -> dict[str, Any]:
    """Passages, queries and the exact answers, as files of ``folder``; returns what machine this is."""
    from bessemer.search.analyzer import analyze
    from bessemer.search.bm25 import BM25
    from bessemer.search.exact import ExactSearch
    from machine import machine
    from texts import docstring_texts

    rng = np.random.default_rng(0)
    texts = docstring_texts(n_passages)
    (folder / "texts.json").write_text(json.dumps(texts))
    centres = rng.standard_normal((CENTRES, DIMENSION), dtype=np.float32)
    vectors = _unit(centres[rng.integers(CENTRES, size=n_passages)] + _noise(rng, n_passages))
    chosen = rng.choice(n_passages, N_QUERIES, replace=False)
    queries = _unit(vectors[chosen] + 0.5 * _unit(_noise(rng, N_QUERIES)))
    lexical = BM25.build([str(row) for row in range(n_passages)], texts)
    words = [list(dict.fromkeys(analyze(texts[row])))[::2][:QUERY_WORDS] for row in chosen]
    terms = [[lexical.vocabulary[word] for word in some] for some in words]
    indptr = np.cumsum([0, *map(len, terms)])
    ids = np.array([term for some in terms for term in some])
    shape = (N_QUERIES, len(lexical.vocabulary))
    term_queries = sp.csr_array((lexical.query_weights[ids], ids, indptr), shape=shape)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    sp.save_npz(folder / "bm25.npz", lexical.postings.T.tocsr())
    sp.save_npz(folder / "term_queries.npz", term_queries)
    np.save(folder / "exact.npy", ExactSearch(vectors).top_k(queries, min(TOP_K, n_passages))[1])
    return machine()


def _noise(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal((n, DIMENSION), dtype=np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def engine(name: str, folder: Path) -> Engine:
    from bessemer.search.stores.files import FilesEngine
    from bessemer.search.stores.milvus import open_milvus_lite
    from bessemer.search.stores.qdrant_edge import QdrantEdgeEngine

    makers: dict[str, Callable[[Path], Engine]] = {
        "files": FilesEngine, "qdrant-edge": QdrantEdgeEngine, "milvus": open_milvus_lite,
    }  # fmt: skip
    return makers[name](folder / name)


def index(name: str, folder: Path) -> dict[str, Any]:
    """Fill the engine in batches, each of which is on disk before the next begins."""
    from bessemer.encoders.encoder import Encoded
    from bessemer.types import Passage

    texts = json.loads((folder / "texts.json").read_text())
    vectors = np.load(folder / "vectors.npy")
    bm25 = sp.load_npz(folder / "bm25.npz").tocsr()
    given = peak_memory_mib()
    opened = engine(name, folder)
    seconds = 0.0
    with opened.lock():
        store = opened.create(GENERATION, Layout(DIMENSION))
        for start in range(0, len(texts), BATCH):
            rows = range(start, min(start + BATCH, len(texts)))
            passages = [
                Passage(
                    str(row),
                    f"d{row // 10}",
                    texts[row],
                    metadata={"lang": "zh" if row % 2 else "en", "year": 2000 + row // 2 % 25},
                )
                for row in rows
            ]
            encoded = Encoded(vectors[rows.start : rows.stop])
            batch = Stored(passages, ["0" * 64] * len(rows), encoded, bm25[rows.start : rows.stop].tocsr())
            begin = time.perf_counter()
            store.upsert(batch)
            seconds += time.perf_counter() - begin
        begin = time.perf_counter()
        opened.switch(GENERATION)
        switching = time.perf_counter() - begin
    peak = peak_memory_mib()
    store.close()
    opened.close()
    size = sum(path.stat().st_blocks * 512 for path in (folder / name).rglob("*") if path.is_file())
    return {
        "passages_per_second": len(texts) / (seconds + switching),
        "switch_seconds": switching,
        "disk_mib": size / 2**20,
        "index_memory_mib": peak - given,
    }


def search(name: str, folder: Path) -> dict[str, Any]:
    from bessemer.search.fusion import reciprocal_rank_fusion

    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact.npy")
    terms = sp.load_npz(folder / "term_queries.npz").tocsr()
    before = peak_memory_mib()
    begin = time.perf_counter()
    opened = engine(name, folder)
    store = opened.open(GENERATION)
    opening = time.perf_counter() - begin

    def dense(row: int) -> Any:
        return store.search_dense(queries[row : row + 1], TOP_K)[0]

    def bm25(row: int) -> Any:
        return store.search_sparse("bm25", terms[row : row + 1], TOP_K)[0]

    def hybrid(row: int) -> Any:
        return reciprocal_rank_fusion([dense(row), bm25(row)])

    def filtered(row: int) -> Any:
        return store.search_dense(queries[row : row + 1], TOP_K, WHERE)[0]

    hybrid(0)
    answering = time.perf_counter() - begin
    lanes = {lane.__name__: timed(lane) for lane in (dense, bm25, hybrid, filtered)}
    n = min(lanes["dense"]["queries"], len(queries))
    found = [len({int(key) for key, _ in dense(row)} & set(exact[row].tolist())) for row in range(n)]
    peak = peak_memory_mib()
    store.close()
    opened.close()
    return {
        "open_seconds": opening,
        "answer_seconds": answering,
        **lanes,
        "dense_recall": sum(found) / (n * exact.shape[1]),
        "search_memory_mib": peak - before,
    }


def whole_index(folder: Path) -> dict[str, Any]:
    from bessemer.search.index import open_index
    from bessemer.search.index_build import build_index
    from bessemer.types import Passage

    texts = json.loads((folder / "texts.json").read_text())
    encoder = GivenVectors(np.load(folder / "vectors.npy"), np.load(folder / "queries.npy"))
    passages = [Passage(str(row), f"d{row // 10}", text) for row, text in enumerate(texts)]
    begin = time.perf_counter()
    build_index(folder / "whole", passages, encoder, "given")
    indexing = time.perf_counter() - begin
    begin = time.perf_counter()
    index = open_index(folder / "whole", encoder)
    opening = time.perf_counter() - begin
    index.search("first", TOP_K)
    answering = time.perf_counter() - begin
    rows = np.random.default_rng(1).choice(len(texts), N_QUERIES, replace=False)
    queries = [" ".join(texts[row].split()[:QUERY_WORDS]) for row in rows]
    return {
        "passages_per_second": len(texts) / indexing,
        "open_seconds": opening,
        "answer_seconds": answering,
        "hybrid": timed(lambda number: index.search(queries[number], TOP_K)),
    }


class GivenVectors:
    """In the place of a model: the vectors of passages in their order, for each query the next one."""

    similarity = "dot"

    def __init__(self, passages: np.ndarray, queries: np.ndarray) -> None:
        self._passages, self._queries = iter(passages), cycle(queries)

    def fingerprint_of(self, side: str) -> str:
        return "0" * 64

    def encode_queries(self, texts: list[str]) -> Any:
        return self._next(self._queries, len(texts))

    def encode_passages(self, texts: list[str]) -> Any:
        return self._next(self._passages, len(texts))

    def _next(self, vectors: Iterator[np.ndarray], n: int) -> Any:
        from bessemer.encoders.encoder import Encoded

        return Encoded(dense=np.stack(list(islice(vectors, n))))


def timed(lane: Callable[[int], Any]) -> dict[str, float]:
    """Milliseconds of one query."""
    lane(1)
    seconds: list[float] = []
    while len(seconds) < N_QUERIES and (len(seconds) < FEWEST or sum(seconds) < SECONDS_PER_LANE):
        begin = time.perf_counter()
        lane(len(seconds))
        seconds.append(time.perf_counter() - begin)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"p50_ms": p50, "p95_ms": p95, "queries": len(seconds)}


@dataclass(frozen=True)
class Column:
    title: str
    value: Callable[[dict[str, Any]], str]


COLUMNS = (
    Column("passages/s in", lambda row: f"{row['passages_per_second']:,.0f}"),
    Column("opened, answered (s)", lambda row: f"{row['open_seconds']:.2f}, {row['answer_seconds']:.2f}"),
    *(
        Column(f"{lane} p50, p95 (ms)", lambda row, lane=lane: f"{row[lane]['p50_ms']:.1f}, {row[lane]['p95_ms']:.1f}")  # type: ignore[misc]
        for lane in ("dense", "bm25", "hybrid", "filtered")
    ),
    Column("recall@100", lambda row: f"{row['dense_recall']:.4f}"),
    Column("disk (MiB)", lambda row: f"{row['disk_mib']:,.0f}"),
    Column(
        "memory in, searching (MiB)", lambda row: f"{row['index_memory_mib']:,.0f}, {row['search_memory_mib']:,.0f}"
    ),
)


def table(measured: dict[str, Any]) -> list[str]:
    lines = ["", "| passages | engine | " + " | ".join(column.title for column in COLUMNS) + " |"]
    lines.append("|---|---|" + "---|" * len(COLUMNS))
    for n_passages, rows in measured["sizes"].items():
        for name, row in rows.items():
            cells = " | ".join(column.value(row) for column in COLUMNS)
            lines.append(f"| {int(n_passages):,} | {name} | {cells} |")
    lines += ["", "| passages | whole index, passages/s in | opened, answered (s) | hybrid p50, p95 (ms) |"]
    lines.append("|---|---|---|---|")
    for n_passages, row in measured["whole index"].items():
        cells = (
            COLUMNS[0].value(row),
            COLUMNS[1].value(row),
            f"{row['hybrid']['p50_ms']:.1f}, {row['hybrid']['p95_ms']:.1f}",
        )
        lines.append(f"| {int(n_passages):,} | {' | '.join(cells)} |")
    about = measured["machine"]
    load = about["load_average"][0]
    return [
        *lines,
        "",
        f"{about['cpu']}, {about['cores']} cores, load {load:.1f} when it began; `benchmarks/search.json`.",
        "",
    ]


if __name__ == "__main__":
    main()
