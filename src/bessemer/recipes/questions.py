"""Questions for passages: extracted without a language model, joined with people's own where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.config import Config, QuestionsConfig
from bessemer.formats import write_beir
from bessemer.questions.extract import Extracted, extract_questions
from bessemer.questions.own import OwnQuestions, own_questions
from bessemer.questions.split import split_by_document
from bessemer.recipes.data import input_name, open_collection, open_encoder, passage_tokens, require_one_input
from bessemer.recipes.output import claim_folder
from bessemer.recipes.prepare import Prepared, funnel_stage, prepare, write_dropped
from bessemer.types import Collection, Dropped, Judged, Passage

EXTRACTED = "no judged questions were given: they were extracted from the documents, which is easier than life"


@dataclass(frozen=True)
class Questions:
    """A judged collection made from documents, what was dropped on the way, and what to know of it."""

    collection: Collection
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


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
    collection = Collection(input_name(config), extracted.passages, extracted.splits)
    write_beir(collection, out)
    write_dropped((*dropped, *extracted.dropped), out / "dropped.jsonl")
    funnel.append(funnel_stage("questions", n_queries(collection), extracted.dropped))
    counts = {split: {"queries": len(judged.queries)} for split, judged in extracted.splits.items()}
    return {"out": str(out), "funnel": funnel, "splits": counts, "notes": [EXTRACTED]}


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


def n_queries(collection: Collection) -> int:
    return sum(len(judged.queries) for judged in collection.splits.values())
