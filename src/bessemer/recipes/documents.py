"""Documents to a judged collection: passages, splits by document, and questions for each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bessemer.config import Config, QuestionsConfig
from bessemer.corpus.chunk import CountTokens
from bessemer.encoders.dense import DenseEncoder
from bessemer.formats import write_beir
from bessemer.questions.extract import Extracted, extract_questions
from bessemer.questions.own import OwnQuestions, own_questions
from bessemer.questions.split import split_by_document
from bessemer.recipes.data import Material, account, open_collection, open_encoder, passage_tokens, require_one_input
from bessemer.recipes.output import claim_folder
from bessemer.recipes.prepare import Prepared, funnel_stage, prepare, write_dropped, write_prepared
from bessemer.types import Collection, Dropped, Judged, Passage
from bessemer.workspace import Workspace

EXTRACTED = "no judged questions were given: they were extracted from the documents, which is easier than life"


@dataclass(frozen=True)
class Questions:
    """A judged collection made from documents, what was dropped on the way, and what to know of it."""

    collection: Collection
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


def material_from_documents(config: Config, encoder: DenseEncoder, workspace: Workspace) -> Material:
    """Read, chunk and split ``config.source``; extract questions, or take ``config.queries`` and extract the rest."""
    assert config.source is not None
    limit = passage_tokens(config, encoder)
    settings = Config(chunking=config.chunking, split=config.split, seed=config.seed)
    prepared = workspace.step("documents", prepare_source, Path(config.source), settings, encoder.count_tokens, limit)
    own = Path(config.queries) if config.queries else None
    questions = workspace.step("questions", ask, prepared, config.questions, own, config.seed)
    funnel = [*prepared.funnel, funnel_stage("questions", _n_queries(questions.collection), questions.dropped)]
    collection = replace(questions.collection, name=_name(config))
    notes = [f"passages are at most {limit} tokens long with their headings", *questions.notes]
    return Material(
        collection,
        account(collection, warnings=notes, n_documents=len(prepared.documents), funnel=funnel),
        dropped=(*prepared.dropped, *questions.dropped),
        whole=prepared.passages,
    )


def prepare_source(source: Path, settings: Config, count_tokens: CountTokens, max_tokens: int) -> Prepared:
    """`prepare`, with the source as a path, so that its content is part of the step's key."""
    return prepare(settings.model_copy(update={"source": str(source)}), count_tokens, max_tokens)


def ask(prepared: Prepared, config: QuestionsConfig, own: Path | None, seed: int) -> Questions:
    """Questions for every split. People's own ones judge where there are any; extracted ones train beside them."""
    if own is None:
        extracted = extract_questions(prepared.passages, prepared.splits, config, seed)
        return Questions(Collection("", extracted.passages, extracted.splits), extracted.dropped, (EXTRACTED,))
    given = own_questions(own, prepared.documents, prepared.passages, prepared.splits)
    extracted = extract_questions(prepared.passages, prepared.splits, config, seed)
    splits, notes = _joined(given, extracted)
    own_splits = {split for split, judged in given.splits.items() if judged.queries and split != "train"}
    passages = _restored(prepared, extracted, own_splits)
    return Questions(Collection("", passages, splits), (*given.dropped, *extracted.dropped), tuple(notes))


def _joined(given: OwnQuestions, extracted: Extracted) -> tuple[dict[str, Judged], list[str]]:
    """Own questions in dev, test and seen where there are any, else extracted ones; both in train."""
    splits, notes = {}, []
    for split, made in extracted.splits.items():
        asked = given.splits.get(split, Judged((), {}))
        if split == "train":
            splits[split] = Judged((*asked.queries, *made.queries), {**asked.qrels, **made.qrels})
            notes.append(f"train: {len(asked.queries)} own and {len(made.queries)} extracted questions")
        elif asked.queries:
            splits[split] = asked
            notes.append(f"{split}: {len(asked.queries)} own questions")
        else:
            splits[split] = made
            notes.append(f"{split}: no own question belongs to it, {len(made.queries)} extracted ones serve")
    if given.dropped:
        notes.append(f"{len(given.dropped)} own questions could not be resolved (dropped.jsonl names each)")
    return splits, notes


def _restored(prepared: Prepared, extracted: Extracted, own_splits: set[str]) -> tuple[Passage, ...]:
    """Own questions are asked of whole passages; where extracted ones judge or train, their spans stay withheld."""
    return tuple(
        whole if prepared.splits[whole.doc_id] in own_splits else reduced
        for whole, reduced in zip(prepared.passages, extracted.passages, strict=True)
    )


def _n_queries(collection: Collection) -> int:
    return sum(len(judged.queries) for judged in collection.splits.values())


def prepare_folder(config: Config) -> Mapping[str, Any]:
    """``config.source`` as a BEIR corpus in ``config.out``, with dropped.jsonl and the split of every document."""
    out = claim_folder(config.out)
    encoder = open_encoder(config, config.model)
    prepared = prepare(config, encoder.count_tokens, passage_tokens(config, encoder))
    write_prepared(prepared, out, _name(config))
    documents = Counter(prepared.splits.values())
    passages = Counter(prepared.splits[passage.doc_id] for passage in prepared.passages)
    splits = {split: {"documents": documents[split], "passages": passages[split]} for split in ("train", "dev", "test")}
    return {"out": str(out), "funnel": list(prepared.funnel), "splits": splits, "notes": []}


def questions_folder(config: Config) -> Mapping[str, Any]:
    """Extracted questions with qrels for a corpus or documents: a BEIR folder with dropped.jsonl."""
    require_one_input(config)
    out = claim_folder(config.out)
    funnel: list[Mapping[str, Any]] = []
    dropped: tuple[Dropped, ...] = ()
    if config.source:
        encoder = open_encoder(config, config.model)
        prepared = prepare(config, encoder.count_tokens, passage_tokens(config, encoder))
        passages, splits = prepared.passages, prepared.splits
        funnel, dropped = [*prepared.funnel], prepared.dropped
    else:
        passages = open_collection(config).collection.passages
        splits = split_by_document({p.doc_id: p.doc_id for p in passages}, config.split, config.seed)
    extracted = extract_questions(passages, splits, config.questions, config.seed)
    collection = Collection(_name(config), extracted.passages, extracted.splits)
    write_beir(collection, out)
    write_dropped((*dropped, *extracted.dropped), out / "dropped.jsonl")
    funnel.append(funnel_stage("questions", _n_queries(collection), extracted.dropped))
    counts = {split: {"queries": len(judged.queries)} for split, judged in extracted.splits.items()}
    return {"out": str(out), "funnel": funnel, "splits": counts, "notes": [EXTRACTED]}


def _name(config: Config) -> str:
    return Path(config.source or config.data or "").resolve().name
