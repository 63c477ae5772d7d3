"""Documents to a corpus: read, clean, chunk, deduplicate, split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.corpus.chunk import to_passages
from bessemer.corpus.dedup import cluster_documents, deduplicate
from bessemer.corpus.pack import CountTokens
from bessemer.corpus.read import read_documents
from bessemer.errors import ConfigError, DataError, Problem
from bessemer.formats.beir import write_beir
from bessemer.formats.lines import write_jsonl
from bessemer.questions.split import split_by_document
from bessemer.recipes.data import input_name, open_encoder, passage_tokens, require_outside
from bessemer.recipes.funnel import funnel_stage, write_dropped
from bessemer.recipes.output import BEIR_FILES, claim_folder, require_own
from bessemer.types import Collection, Document, Dropped, Filtered, Passage


@dataclass(frozen=True, slots=True)
class Prepared:
    """A corpus with the split of each document, and the account of everything left out.

    ``funnel`` holds one ``{"stage", "kept", "dropped", "reasons"}`` per stage, in order: read and clean count documents
    (clean: pieces taken out of them), chunk and dedup passages, split documents.
    """

    documents: tuple[Document, ...]
    passages: tuple[Passage, ...]
    splits: Mapping[str, str]
    dropped: tuple[Dropped, ...]
    funnel: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Chunked:
    """A corpus without splits, with the documents that it is of, and everything left out."""

    documents: tuple[Document, ...]
    passages: tuple[Passage, ...]
    dropped: tuple[Dropped, ...]


def prepare(config: Config, count_tokens: CountTokens, max_tokens: int) -> Prepared:
    """Read ``config.source`` and make passages of at most ``max_tokens`` tokens, as ``count_tokens`` counts them.

    Raises DataError when there is no such source, when nothing can be read, fewer than two passages are left, or the
    documents cannot be split.
    """
    read, chunked, unique = _passages(config, count_tokens, max_tokens)
    if len(unique.kept) < 2:
        message = f"{len(unique.kept)} passage(s) from {len(read.kept)} document(s): nothing to search in"
        fix = "give more text, or a lower chunking.min_tokens"
        raise DataError([Problem(str(config.source), None, "passages", message, fix)])
    with_passages = {passage.doc_id for passage in unique.kept}
    clusters = cluster_documents(read.kept)
    splits = split_by_document({d: c for d, c in clusters.items() if d in with_passages}, config.split, config.seed)
    cleaned = [item for item in read.dropped if item.stage == "clean"]
    unread = [item for item in read.dropped if item.stage != "clean"]
    funnel = (
        funnel_stage("read", len(read.kept), unread),
        funnel_stage("clean", len(read.kept), cleaned),
        funnel_stage("chunk", len(chunked.kept), chunked.dropped),
        funnel_stage("dedup", len(unique.kept), unique.dropped),
        funnel_stage("split", len(splits), []),
    )
    return Prepared(read.kept, unique.kept, splits, (*read.dropped, *chunked.dropped, *unique.dropped), funnel)


def prepare_folder(config: Config) -> Mapping[str, Any]:
    """``config.source`` as a BEIR corpus in ``config.out``, with dropped.jsonl and the split of every document."""
    require_outside(config)
    out = claim_folder(config.out)
    require_own(out, "splits.jsonl", "prepare", BEIR_FILES)
    encoder = open_encoder(config, config.model)
    prepared = prepare(config, encoder.count_tokens, passage_tokens(config, encoder))
    write_prepared(prepared, out, input_name(config))
    documents = Counter(prepared.splits.values())
    passages = Counter(prepared.splits[passage.doc_id] for passage in prepared.passages)
    splits = {split: {"documents": documents[split], "passages": passages[split]} for split in ("train", "dev", "test")}
    return {"out": str(out), "funnel": list(prepared.funnel), "splits": splits, "notes": []}


def prepare_corpus(config: Config, count_tokens: CountTokens, max_tokens: int) -> Chunked:
    """The passages of ``config.source`` without splits, for an index: one document is enough."""
    read, chunked, unique = _passages(config, count_tokens, max_tokens)
    return Chunked(read.kept, unique.kept, (*read.dropped, *chunked.dropped, *unique.dropped))


def _passages(
    config: Config, count_tokens: CountTokens, max_tokens: int
) -> tuple[Filtered[Document], Filtered[Passage], Filtered[Passage]]:
    """What reading, chunking and deduplication each kept and dropped."""
    if config.source is None:
        raise ConfigError("no documents given; name a file or folder with --source")
    read = read_documents(config.source, config.chunking)
    chunked = to_passages(read.kept, count_tokens, config.chunking, max_tokens)
    return read, chunked, deduplicate(chunked.kept, config.chunking)


def write_prepared(prepared: Prepared, folder: str | Path, name: str) -> None:
    """A BEIR folder with the corpus, ``dropped.jsonl`` and ``splits.jsonl`` (doc_id and split).

    Raises ConfigError when the folder cannot be written.
    """
    write_dropped(prepared.dropped, Path(folder, "dropped.jsonl"))
    rows = ({"doc_id": doc_id, "split": split} for doc_id, split in sorted(prepared.splits.items()))
    write_jsonl(Path(folder, "splits.jsonl"), rows)
    write_beir(Collection(name, prepared.passages, {}), folder)
