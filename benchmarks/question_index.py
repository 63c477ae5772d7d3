"""What a question index adds: the same index without and with the questions of train, and with weights of the lanes
that the dev queries chose (`bessemer index --fusion-data`), asked the test queries.

    python benchmarks/question_index.py --data $BESSEMER_DATA/beir --json benchmarks/question_index.json --write-docs

Train and test queries of toollens ask for the same tools; those of or_sharc and of pubmedqa ask for other passages, so
that the questions can only be in the way there.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.load import load_encoder
from bessemer.formats import read_beir
from bessemer.recipes.index_fusion import tune_index
from bessemer.recipes.index_questions import questions_for_index
from bessemer.search.index import open_index
from bessemer.search.index_build import build_index
from two_indexes import compared, keep, table, write_results

SECTION = "question_index"
SETS = ("toollens", "or_sharc", "pubmedqa")
NAMES = {
    "plain": "dense and BM25",
    "treated": "and questions of train, by rank",
    "weighted": "and questions of train, weighted by dev",
    "plain.dense": "dense alone",
    "treated.questions": "questions alone",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder of BEIR folders")
    parser.add_argument("--only", nargs="*", default=list(SETS))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--n-queries", type=int, help="of test; unset: all")
    parser.add_argument("--n-questions", type=int, help="of train; unset: all")
    parser.add_argument("--workspace", type=Path, default=Path("out/question_index"), help="keeps vectors")
    parser.add_argument("--json", type=Path, default=Path("out/question_index.json"))
    parser.add_argument("--write-docs", action="store_true", help=f"the section {SECTION} of docs/results.md")
    arguments = parser.parse_args()
    for name in arguments.only:
        found = measured(arguments.data / name, arguments)
        everything = keep(arguments.json, name, found)
        print("\n".join(table({name: found}, NAMES)), flush=True)
    if arguments.write_docs:
        told = "Written by `python benchmarks/question_index.py --data $BESSEMER_DATA/beir --write-docs`."
        counts = [f"- {name}: {found['n_questions']:,} questions point at passages; {weights(found)}"
                  for name, found in everything.items()]  # fmt: skip
        write_results(SECTION, ["## The question index", "", told, "", *counts, "", *table(everything, NAMES)])


def weights(found: Mapping[str, Any]) -> str:
    chosen = found["fusion"]["weights"]
    told = ", ".join(f"{lane} {weight:g}" for lane, weight in chosen.items()) if chosen else "ranks are no worse"
    return f"weights by {found['fusion']['n_queries']:,} dev queries: {told}"


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    collection = read_beir(folder, require=("train", "test")).collection
    encoder = CachedEncoder(load_encoder(arguments.model), arguments.workspace)
    config = Config(index={"questions": [str(folder)]})  # type: ignore[arg-type]
    questions = questions_for_index(config, (), collection.passages, [collection])
    asked = questions.kept[: arguments.n_questions]
    judged = replace(collection.splits["test"], queries=collection.splits["test"].queries[: arguments.n_queries])
    with tempfile.TemporaryDirectory() as temporary:
        build = (collection.passages, encoder, arguments.model)
        build_index(f"{temporary}/plain", *build)
        stats = build_index(f"{temporary}/treated", *build, questions=asked)
        indexes = [open_index(f"{temporary}/{name}", encoder) for name in ("plain", "treated")]
        found = compared(indexes[0], indexes[1], encoder, judged, list(collection.passages))
        fusion = tune_index(f"{temporary}/treated", encoder, collection)
        weighted = open_index(f"{temporary}/treated", encoder)
        add_weighted(found, compared(indexes[0], weighted, encoder, judged, list(collection.passages)))
    return found | {"fusion": fusion, "n_questions": stats.n_questions, "left_out": len(questions.dropped)}


def add_weighted(found: dict[str, Any], other: dict[str, Any]) -> None:
    """The treated index of ``other`` into ``found``, as `weighted`."""
    found["systems"]["weighted"] = other["systems"]["treated"]
    rows = [row for row in other["comparisons"] if (row["baseline"], row["treatment"]) == ("plain", "treated")]
    found["comparisons"] += [{**row, "treatment": "weighted"} for row in rows]


if __name__ == "__main__":
    main()
