"""Questions for passages: by a language model or extracted without one, joined with people's own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bessemer.config import Config, QuestionsConfig
from bessemer.corpus.dedup import cluster_documents
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.encoder import Encoder
from bessemer.errors import ConfigError, DataError, Problem
from bessemer.formats import write_beir
from bessemer.llm.client import Client
from bessemer.questions.alike import repeated
from bessemer.questions.extract import extract_questions
from bessemer.questions.own import OwnQuestions, own_questions
from bessemer.questions.review import Decision, read_review, write_review
from bessemer.questions.split import split_by_document
from bessemer.recipes.data import (
    input_name,
    open_collection,
    open_encoder,
    passage_tokens,
    require_one_input,
    require_outside,
)
from bessemer.recipes.funnel import funnel_stage, write_dropped
from bessemer.recipes.generated import Written, by_split, estimate, open_llm, written_questions
from bessemer.recipes.output import BEIR_FILES, claim_file, claim_folder, require_own
from bessemer.recipes.prepare import Prepared, prepare
from bessemer.types import Collection, Document, Dropped, Judged, Passage

EXTRACTED = "no judged questions were given: they were extracted from the documents, which is easier than life"


@dataclass(frozen=True)
class Questions:
    """A judged collection made from documents, what was dropped on the way, and what to know of it.

    ``passages`` of the collection are as they are judged: extracted questions are taken out of theirs. ``llm`` holds
    the calls and the easiness of generated questions, {} where none were.
    """

    collection: Collection
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    funnel: tuple[Mapping[str, Any], ...]
    llm: Mapping[str, Any] = field(default_factory=dict)


def questions_folder(config: Config, *, review: str | None = None, dry_run: bool = False) -> Mapping[str, Any]:
    """Questions with qrels for a corpus or documents, beside people's own in ``config.queries``: a BEIR folder with
    dropped.jsonl.

    ``review``: a CSV file of generated questions. Where it is not there it is written, and nothing else; where it is,
    what a person accepted or edited in it is taken. ``dry_run``: what the language model would be asked and what that
    would cost at most; nothing is written.
    """
    require_one_input(config.model_copy(update={"queries": None}))  # a corpus takes people's own questions as well
    require_outside(config)
    if config.data and Path(config.data).resolve() == Path(config.out).resolve():
        raise ConfigError(f"--out {config.out}: is --data, whose corpus would be written over; choose another folder")
    if review and (config.llm.url is None or config.questions.strategy == "extract"):
        raise ConfigError("--review is for generated questions; give --llm URL and --llm-model NAME")
    decisions = read_review(review) if review and Path(review).exists() else None
    with open_llm(config, dry_run=dry_run) as llm:
        if dry_run and llm is None:
            return {"llm": None}
        encoder = None if dry_run and config.data else _encoder(config)
        prepared = _prepared(config, encoder)
        if dry_run:
            assert llm is not None
            return {"llm": estimate(prepared.passages, prepared.splits, llm, config.questions, config.seed)}
        asks = wants_llm(config.questions, llm)
        cached = CachedEncoder(encoder, config.workspace_folder / "embeddings") if encoder and asks else None
        if review and decisions is None:
            assert llm is not None
            claim_file(review, "--review")
            drafts = written_questions(prepared.passages, prepared.splits, llm, cached, config.questions, config.seed)
            return _for_review(drafts, prepared, review)
        claim_folder(config.out)
        require_own(config.out, "dropped.jsonl", "questions", BEIR_FILES)
        own = Path(config.queries) if config.queries else None
        made = ask(prepared, config.questions, own, llm, cached, config.seed, decisions)
    out = Path(config.out)
    write_beir(Collection(input_name(config), made.collection.passages, made.collection.splits), out)
    write_dropped((*prepared.dropped, *made.dropped), out / "dropped.jsonl")
    counts = {split: {"queries": len(judged.queries)} for split, judged in made.collection.splits.items()}
    funnel = [*prepared.funnel, *made.funnel]
    return {"out": str(out), "funnel": funnel, "splits": counts, "notes": list(made.notes), "llm": dict(made.llm)}


def _for_review(written: Written, prepared: Prepared, file: str) -> Mapping[str, Any]:
    write_review(written.drafts, {passage.passage_id: passage for passage in prepared.passages}, file)
    note = f"fill in the column `decision` of {file} (accept, edit, reject) and run the same command again"
    return {
        "out": file,
        "funnel": [*prepared.funnel, *written.funnel],
        "splits": {},
        "notes": [note],
        "llm": written.calls,
    }


def wants_llm(config: QuestionsConfig, llm: Client | None) -> bool:
    """Raises ConfigError where questions shall be generated and there is nothing to ask."""
    if config.strategy == "generate" and llm is None:
        raise ConfigError("questions.strategy: generate needs a language model; give --llm URL and --llm-model NAME")
    return llm is not None and config.strategy != "extract"


def _prepared(config: Config, encoder: Any) -> Prepared:
    """Documents as `prepare` makes them; a corpus as it is, with versions of a document in one split."""
    if config.source:
        return prepare(config, encoder.count_tokens, passage_tokens(config, encoder))
    passages = open_collection(config).collection.passages
    splits = split_by_document(cluster_documents(_documents_of(passages)), config.split, config.seed)
    return Prepared((), passages, splits, (), ())


def _documents_of(passages: Sequence[Passage]) -> list[Document]:
    texts: dict[str, list[str]] = defaultdict(list)
    for passage in passages:
        texts[passage.doc_id].append(passage.text)
    return [Document(doc_id, "\n".join(parts)) for doc_id, parts in texts.items()]


def _encoder(config: Config) -> Any:
    """None where there are only passages and the default model cannot be had: BM25 judges alone then."""
    try:
        return open_encoder(config, config.model)
    except ConfigError:
        if config.source or config.model != Config().model:
            raise
        return None


def extracted(passages: Sequence[Passage], splits: Mapping[str, str], config: QuestionsConfig, seed: int) -> Questions:
    """Without a language model."""
    made = extract_questions(passages, splits, config, seed)
    funnel = (funnel_stage("questions", _n_queries(made.splits), made.dropped),)
    return Questions(Collection("", made.passages, made.splits), made.dropped, (EXTRACTED,), funnel)


def generated(
    passages: Sequence[Passage],
    splits: Mapping[str, str],
    llm: Client,
    encoder: Encoder | None,
    config: QuestionsConfig,
    seed: int,
    review: Mapping[str, Decision] | None = None,
) -> Questions:
    """By a language model, filtered, and by a person where there is a review."""
    made = written_questions(passages, splits, llm, encoder, config, seed, review)
    judged = by_split(made.drafts)
    notes = [f"questions were written by {llm.model} and filtered: easier than people's own, as a rule"]
    easy = made.easiness.get("test", {})
    if easy:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in easy.items())
        notes.append(f"share of test questions whose passage stands first before any tuning: {shares}")
    if made.n_lost:
        notes.append(
            f"{made.n_lost} questions that the review accepts or edits are not asked any more: documents, settings or "
            "answers of the language model have changed since it was written"
        )
    account = {**made.calls, "easiness": made.easiness}
    return Questions(Collection("", tuple(passages), judged), made.dropped, tuple(notes), made.funnel, account)


def ask(
    prepared: Prepared,
    config: QuestionsConfig,
    own: Path | None,
    llm: Client | None,
    encoder: Encoder | None,
    seed: int,
    review: Mapping[str, Decision] | None = None,
) -> Questions:
    """Questions for every split. People's own ones judge where there are any; made ones train beside them. Raises
    DataError where train, dev or test is left without one."""
    given = _own(own, prepared) if own else None  # what is wrong with it is told before a language model is paid
    if wants_llm(config, llm):
        assert llm is not None
        made = generated(prepared.passages, prepared.splits, llm, encoder, config, seed, review)
    else:
        made = extracted(prepared.passages, prepared.splits, config, seed)
    asked = made if given is None else _with_own(given, prepared, made)
    _require_questions(asked)
    return asked


def _require_questions(asked: Questions) -> None:
    """Names the most frequent reasons: nothing is written where this fails."""
    reasons = Counter(item.reason for item in asked.dropped).most_common(3)
    found = "; ".join(f"{reason} ({count})" for reason, count in reasons) or "nothing to ask"
    fix = "give more text, or your own --queries"
    problems = [
        Problem("source", None, split, f"no question is left for {split}: {found}", fix)
        for split in ("train", "dev", "test")
        if not asked.collection.splits[split].queries
    ]
    if problems:
        raise DataError(problems)


def _own(own: Path, prepared: Prepared) -> OwnQuestions:
    return own_questions(own, prepared.documents, prepared.passages, prepared.splits, prepared.dropped)


def _with_own(given: OwnQuestions, prepared: Prepared, made: Questions) -> Questions:
    made = _without_repeated(given, made)
    splits, notes = _joined(given, made)
    own_splits = {split for split, judged in given.splits.items() if judged.queries and split != "train"}
    passages = _restored(prepared, made.collection.passages, own_splits)
    dropped, of_llm = (*given.dropped, *made.dropped), made.notes if made.llm else ()
    funnel = (*made.funnel, funnel_stage("own questions", _n_queries(given.splits), given.dropped))
    return Questions(Collection("", passages, splits), dropped, (*notes, *of_llm), funnel, made.llm)


def _without_repeated(given: OwnQuestions, made: Questions) -> Questions:
    """``made`` without questions that ask what an own one asks, where one of the two is trained on and the other is
    measured."""
    own: dict[bool, list[str]] = {True: [], False: []}
    for split, judged in given.splits.items():
        own[split == "train"] += [query.text for query in judged.queries]
    splits, dropped = dict[str, Judged](), list[Dropped]()
    for split, judged in made.collection.splits.items():
        is_train = split == "train"
        found = repeated([query.text for query in judged.queries], own[not is_train])
        kept = [query for i, query in enumerate(judged.queries) if i not in found]
        splits[split] = Judged(tuple(kept), {query.query_id: judged.qrels[query.query_id] for query in kept})
        reason = f"asks the same as an own question that is {'measured' if is_train else 'trained on'}"
        for i, similarity in found.items():
            query = judged.queries[i]
            home = next(iter(judged.qrels[query.query_id]))
            dropped.append(Dropped(query.query_id, "repeats", reason, query.text, similarity, home))
    return replace(
        made,
        collection=replace(made.collection, splits=splits),
        dropped=(*made.dropped, *dropped),
        funnel=(*made.funnel, funnel_stage("repeats", _n_queries(splits), dropped)),
    )


def _joined(given: OwnQuestions, made: Questions) -> tuple[dict[str, Judged], list[str]]:
    """Own questions in dev, test and seen where there are any, else made ones; both in train."""
    word = "generated" if made.llm else "extracted"
    splits, notes = {}, []
    for split, judged in made.collection.splits.items():
        asked = given.splits.get(split, Judged((), {}))
        if split == "train":
            splits[split] = Judged((*asked.queries, *judged.queries), {**asked.qrels, **judged.qrels})
            notes.append(f"train: {len(asked.queries)} own and {len(judged.queries)} {word} questions")
        elif asked.queries:
            splits[split] = asked
            notes.append(f"{split}: {len(asked.queries)} own questions")
        else:
            splits[split] = judged
            notes.append(f"{split}: no own question belongs to it, {len(judged.queries)} {word} ones serve")
    if given.dropped:
        notes.append(f"{len(given.dropped)} own questions could not be resolved (dropped.jsonl names each)")
    return splits, notes


def _restored(prepared: Prepared, made: Sequence[Passage], own_splits: set[str]) -> tuple[Passage, ...]:
    """Own questions are asked of whole passages; where extracted ones judge or train, their spans stay withheld."""
    return tuple(
        whole if prepared.splits[whole.doc_id] in own_splits else reduced
        for whole, reduced in zip(prepared.passages, made, strict=True)
    )


def _n_queries(splits: Mapping[str, Judged]) -> int:
    return sum(len(judged.queries) for judged in splits.values())
