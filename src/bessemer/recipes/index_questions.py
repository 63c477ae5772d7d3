"""Questions for an index: mined ones of training passages, and people's own. None that anything is judged by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bessemer.config import Config
from bessemer.formats import read_beir
from bessemer.questions.own import own_questions
from bessemer.recipes.prepare import Chunked
from bessemer.search.question_index import Pointer
from bessemer.text import folded, normal_form
from bessemer.types import Collection, Dropped, Filtered, Judged, Passage, Query

STAGE = "question index"
HELD_OUT = "it is a dev or test query"


def questions_for_index(config: Config, corpus: Chunked, judged: Sequence[Collection]) -> Filtered[Pointer]:
    """What the folders and files of ``config.index.questions`` ask of the passages of ``corpus``.

    Of a BEIR folder the questions of train are taken; of a JSONL file all, as `own_questions` reads them. A question
    whose text is a query of another split, of one of the folders or of the collections ``judged``, is never taken,
    whoever asked it. Left out with a count: those, questions of passages that are not indexed, and mined ones of
    passages whose text has changed since. Raises DataError for broken files and for folders without questions of train.
    """
    indexed = {passage.passage_id: passage for passage in corpus.passages}
    found: list[Pointer] = []
    dropped: list[Dropped] = []
    held_out = {form for collection in judged for form in _held_out(collection)}
    for name in config.index.questions:
        if Path(name).is_dir():
            mined = read_beir(name, seed=config.seed, require=("train",)).collection
            held_out |= _held_out(mined)
            found += _of_same_texts(mined, indexed, dropped)
        else:
            splits = {passage.doc_id: "train" for passage in corpus.passages}
            own = own_questions(name, corpus.documents, corpus.passages, splits, corpus.dropped)
            dropped += own.dropped
            found += _pointers(own.splits["train"])
    kept = []
    for query, passage_id in found:
        if _form(query) in held_out:
            dropped.append(Dropped(query.query_id, STAGE, HELD_OUT, query.text, passage_id=passage_id))
        else:
            kept.append((query, passage_id))
    return Filtered(tuple(kept), tuple(dropped))


def _held_out(collection: Collection) -> set[str]:
    others = (judged for split, judged in collection.splits.items() if split != "train")
    return {_form(query) for judged in others for query in judged.queries}


def _form(query: Query) -> str:
    """Without case and marks, so that a held-out question does not come back by a comma."""
    return normal_form(query.searched_text) or folded(query.searched_text)


def _pointers(judged: Judged) -> Iterator[Pointer]:
    for query in judged.queries:
        grades = judged.qrels.get(query.query_id, {})
        yield from ((query, passage_id) for passage_id, relevance in grades.items() if relevance > 0)


def _of_same_texts(mined: Collection, indexed: Mapping[str, Passage], dropped: list[Dropped]) -> Iterator[Pointer]:
    """Ids alone could be those of another corpus."""
    texts = {passage.passage_id: passage.text for passage in mined.passages}
    for query, passage_id in _pointers(mined.splits["train"]):
        if passage_id in indexed and indexed[passage_id].text == texts[passage_id]:
            yield query, passage_id
        else:
            reason = "its passage has another text here" if passage_id in indexed else "its passage is not indexed"
            dropped.append(Dropped(query.query_id, STAGE, reason, query.text, passage_id=passage_id))
