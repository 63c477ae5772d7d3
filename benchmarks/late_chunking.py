"""Plain against late chunking on real documentation: questions extracted from the documents, asked of both indexes.

    python benchmarks/late_chunking.py --data $BESSEMER_DATA --json benchmarks/late_chunking.json --write-docs

The passages are short (--max-tokens), as late chunking is for those that do not say what they are about. Questions are
those of `bessemer questions` without a language model: headings, phrases and sentences. Their words are blanked in the
documents before either index reads them, so that no question stands in its own passage or around it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.late_chunking import LateChunkedEncoder
from bessemer.recipes.data import open_encoder
from bessemer.recipes.prepare import prepare
from bessemer.recipes.questions import extracted
from bessemer.search.index import open_index
from bessemer.search.index_build import build_index
from bessemer.types import Collection, Document, Judged, Passage
from two_indexes import compared, keep, table, write_results

SECTION = "late_chunking"
SETS = ("fastapi_en",)
NAMES = {
    "plain": "dense and BM25, plain",
    "treated": "dense and BM25, late chunking",
    "plain.dense": "dense alone, plain",
    "treated.dense": "dense alone, late chunking",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="holds the folder `documents`")
    parser.add_argument("--only", nargs="*", default=list(SETS), help="folders in `documents`")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--max-tokens", type=int, default=64, help="of a passage with its headings")
    parser.add_argument("--max-length", type=int, help="tokens of a window; unset: the model's own")
    parser.add_argument("--n-queries", type=int, help="unset: all")
    parser.add_argument("--n-documents", type=int, help="unset: all")
    parser.add_argument("--workspace", type=Path, default=Path("out/late_chunking"), help="keeps vectors")
    parser.add_argument("--json", type=Path, default=Path("out/late_chunking.json"))
    parser.add_argument("--write-docs", action="store_true", help=f"the section {SECTION} of docs/results.md")
    arguments = parser.parse_args()
    for name in arguments.only:
        found = measured(arguments.data / "documents" / name, arguments)
        everything = keep(arguments.json, name, found)
        print("\n".join(table({name: found}, NAMES)), flush=True)
    if arguments.write_docs:
        told = "Written by `python benchmarks/late_chunking.py --data $BESSEMER_DATA --write-docs`, which says how."
        counts = [f"{name}: {f['n_passages']:,} passages of at most {f['max_tokens']} tokens, windows of "
                  f"{f['window']}" for name, f in everything.items()]  # fmt: skip
        write_results(SECTION, ["## Late chunking", "", told, f"{'; '.join(counts)}.", "", *table(everything, NAMES)])


def measured(source: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    config = Config(
        source=str(source),
        model=arguments.model,
        chunking={"max_tokens": arguments.max_tokens},  # type: ignore[arg-type]
        finetune={"max_length": arguments.max_length},  # type: ignore[arg-type]
    )
    encoder = open_encoder(config, arguments.model)
    prepared = prepare(config, encoder.count_tokens, arguments.max_tokens)
    some = {document.doc_id for document in prepared.documents[: arguments.n_documents]}
    passages = [passage for passage in prepared.passages if passage.doc_id in some]
    splits = {doc_id: split for doc_id, split in prepared.splits.items() if doc_id in some}
    made = extracted(passages, splits, config.questions, config.seed).collection
    documents, passages = without_questions(prepared.documents, made)
    judged = asked_of(made.splits, {passage.passage_id for passage in passages}, arguments.n_queries)
    cached = CachedEncoder(encoder, arguments.workspace)
    late = LateChunkedEncoder(encoder, documents)
    with tempfile.TemporaryDirectory() as temporary:
        build_index(f"{temporary}/plain", passages, cached, arguments.model)
        build_index(f"{temporary}/late", passages, late, arguments.model)
        indexes = [open_index(f"{temporary}/{name}", cached) for name in ("plain", "late")]
        found = compared(indexes[0], indexes[1], cached, judged, passages)
    settings = {"max_tokens": arguments.max_tokens, "window": encoder.max_length, "n_passages": len(passages)}
    return found | settings | {"n_over_windows": late.n_over_windows}


def without_questions(documents: Sequence[Document], made: Collection) -> tuple[list[Document], list[Passage]]:
    """Spaces in place of every question, in its document and so in its passages; passages with nothing left go."""
    texts = {document.doc_id: document.text for document in documents}
    doc_of = {passage.passage_id: passage.doc_id for passage in made.passages}
    for judged in made.splits.values():
        for query in judged.queries:
            for doc_id in {doc_of[passage_id] for passage_id in judged.qrels[query.query_id]}:
                texts[doc_id] = texts[doc_id].replace(query.text, " " * len(query.text))
    for passage in made.passages:
        for start, end in passage.withheld:
            first, last = passage.start + start, passage.start + end
            texts[passage.doc_id] = texts[passage.doc_id][:first] + " " * (end - start) + texts[passage.doc_id][last:]
    blanked = [replace(p, text=texts[p.doc_id][p.start : p.end], withheld=()) for p in made.passages]
    kept = [passage for passage in blanked if any(map(str.isalnum, passage.text))]
    return [replace(document, text=texts[document.doc_id]) for document in documents], kept


def asked_of(splits: Mapping[str, Judged], there: set[str], n: int | None) -> Judged:
    """Nothing is trained: the questions of all splits are asked, those of test first."""
    qrels = {key: grades for judged in splits.values() for key, grades in judged.qrels.items()}
    queries = [query for name in ("test", "dev", "train") if name in splits for query in splits[name].queries]
    kept = tuple(query for query in queries if there.issuperset(qrels[query.query_id]))[:n]
    return Judged(kept, {query.query_id: qrels[query.query_id] for query in kept})


if __name__ == "__main__":
    main()
