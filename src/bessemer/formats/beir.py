"""BEIR folders: corpus.jsonl, queries.jsonl, qrels/{train,dev,test,...}.tsv (Thakur et al., arXiv 2104.08663)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.errors import ConfigError, DataError, Problem
from bessemer.formats.lines import (
    GRADE,
    Fields,
    atomic_writer,
    is_number,
    kind,
    read_jsonl,
    read_lines,
    write_jsonl,
)
from bessemer.formats.loaded import Loaded, Notes, inspect
from bessemer.formats.splits import SPLITS, with_dev
from bessemer.types import Collection, Judged, Passage, Qrels, Query

ORIGINS = ("user", "mined", "paraphrased", "extracted")
_OURS = frozenset({"doc_id", "start", "end", "headings", "withheld"})
_LINE = "write query-id, corpus-id, score, separated by tabs"
_NO_CORPUS = "a folder of judged data holds corpus.jsonl, queries.jsonl and qrels/NAME.tsv; documents go with --source"


def read_beir(folder: str | Path, *, seed: int = 42, require: Sequence[str] = ()) -> Loaded:
    """Read a BEIR folder; every further ``qrels/NAME.tsv`` becomes the split NAME.

    ``require`` names the splits that must hold queries; without it a corpus alone is enough. A missing dev is carved
    from train by ``seed`` and counted. Passages and queries keep their ids and order. Raises DataError with all
    problems: broken lines, wrong types, duplicate and unknown ids, missing files.
    """
    folder = Path(folder)
    problems: list[Problem] = []
    notes = Notes()
    passages = _read_corpus(folder / "corpus.jsonl", problems, notes)
    queries = _read_queries(folder / "queries.jsonl", problems, notes)
    judged = _read_all_qrels(folder, passages, queries, problems, notes)
    splits = {
        name: Judged(tuple(query for key, query in queries.items() if query is not None and key in qrels), qrels)
        for name, qrels in judged.items()
        if qrels
    }
    if not problems:
        splits = with_dev(splits, seed, notes)
    for name in require:
        if name not in splits and not (name == "dev" and problems):
            file = str(folder / "qrels" / f"{name}.tsv")
            fix = "give this split, or make it with `bessemer questions`"
            problems.append(Problem(file, None, "", f"no judged {name} queries", fix))
    if problems:
        raise DataError(problems)
    collection = Collection(folder.resolve().name, tuple(p for p in passages.values() if p is not None), splits)
    inspect(collection, notes)
    return Loaded(collection, notes.warnings(), dict(notes.counts))


def write_beir(collection: Collection, folder: str | Path) -> None:
    """Write a folder that `read_beir` reads back alike; ``corpus.jsonl`` comes last, so half a folder never opens.

    Raises ConfigError when the folder cannot be written or an id holds a tab or a line break.
    """
    folder = Path(folder)
    _check_ids(collection)
    queries = {query.query_id: query for judged in collection.splits.values() for query in judged.queries}
    try:
        (folder / "corpus.jsonl").unlink(missing_ok=True)
        for stale in (folder / "qrels").glob("*.tsv"):
            stale.unlink()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); check the output folder") from error
    for name, judged in collection.splits.items():
        with atomic_writer(folder / "qrels" / f"{name}.tsv") as stream:
            stream.write("query-id\tcorpus-id\tscore\n")
            for query_id, grades in judged.qrels.items():
                stream.writelines(f"{query_id}\t{passage_id}\t{grade}\n" for passage_id, grade in grades.items())
    write_jsonl(folder / "queries.jsonl", map(_query_row, queries.values()))
    write_jsonl(folder / "corpus.jsonl", map(_passage_row, collection.passages))


def _check_ids(collection: Collection) -> None:
    ids = [passage.passage_id for passage in collection.passages]
    ids += [query.query_id for judged in collection.splits.values() for query in judged.queries]
    bad = [key for key in ids if not key.strip() or any(character in key for character in "\t\r\n")]
    if bad:
        raise ConfigError(f"ids with a tab or line break cannot be written as qrels: {', '.join(map(repr, bad[:5]))}")


def _read_corpus(path: Path, problems: list[Problem], notes: Notes) -> dict[str, Passage | None]:
    """Passages by id; None where the id is good and the rest is not, so that qrels raise no second problem."""
    passages: dict[str, Passage | None] = {}
    if not path.exists():
        problems.append(Problem(str(path), None, "", "is not there", _NO_CORPUS))
        return passages
    n_before = len(problems)
    for fields, key in _rows(path, passages, problems, notes):
        text, title = fields.text("text"), fields.text("title", optional=True)
        passages[key] = None
        if text is not None and title is not None:
            passages[key] = _passage(key, title, text, _metadata(fields), notes)
    if not passages and len(problems) == n_before:
        problems.append(Problem(str(path), None, "", "the corpus is empty", "give at least one passage"))
    return passages


def _read_queries(path: Path, problems: list[Problem], notes: Notes) -> dict[str, Query | None]:
    queries: dict[str, Query | None] = {}
    if not path.exists():
        notes.add("no_queries", "queries.jsonl is missing: the corpus stands alone")
        return queries
    for fields, key in _rows(path, queries, problems, notes):
        text = fields.text("text")
        queries[key] = None if text is None else _query(key, text, _metadata(fields), notes)
    return queries


def _rows(
    path: Path, seen: Mapping[str, object], problems: list[Problem], notes: Notes
) -> Iterable[tuple[Fields, str]]:
    lines: dict[str, int] = {}
    for number, values in read_jsonl(path, problems):
        fields = Fields(str(path), number, values, problems)
        key = fields.identifier("_id")
        if key is None:
            continue
        if key in seen:
            fields.fault("_id", f"duplicate id {key!r}, first on line {lines[key]}", "give every row its own id")
            continue
        if isinstance(values["_id"], int):
            notes.add("integer_ids", "{n} ids are numbers; they were read as strings")
        lines[key] = number
        yield fields, key


def _metadata(fields: Fields) -> Mapping[str, Any]:
    value = fields.values.get("metadata")
    if value is None or isinstance(value, dict):
        return value or {}
    fields.fault("metadata", f"is {kind(value)}, not an object", 'write "metadata": {...} or leave it out')
    return {}


def _passage(key: str, title: str, text: str, metadata: Mapping[str, Any], notes: Notes) -> Passage:
    """Our own metadata restores document, offsets and withheld spans; without it a passage is its own document. What
    else there is stays with the passage."""
    doc_id = metadata.get("doc_id")
    start, end = metadata.get("start", 0), metadata.get("end", len(text))
    headings, withheld = metadata.get("headings", []), metadata.get("withheld", [])
    doc_id = str(doc_id) if isinstance(doc_id, str | int) and str(doc_id) else key
    ours = (
        isinstance(start, int)
        and isinstance(end, int)
        and isinstance(headings, list)
        and all(isinstance(heading, str) for heading in headings)
        and isinstance(withheld, list)
        and all(_is_span(span, len(text)) for span in withheld)
    )
    if not ours:
        notes.add("foreign_metadata", "{n} passages have start, end, headings or withheld of another kind: ignored")
        start, end, headings, withheld = 0, len(text), [], []
    spans = tuple((span[0], span[1]) for span in withheld)
    kept = metadata if not ours else {name: value for name, value in metadata.items() if name not in _OURS}
    return Passage(key, doc_id, text, title, start, end, tuple(headings), spans, kept)


def _is_span(value: object, length: int) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(number, int) for number in value):
        return False
    return bool(0 <= value[0] <= value[1] <= length)


def _query(key: str, text: str, metadata: Mapping[str, Any], notes: Notes) -> Query:
    answers = metadata.get("answers", metadata.get("long_answer"))
    values = {"answers": answers, "history": metadata.get("history")}
    texts: dict[str, tuple[str, ...]] = {}
    for name, value in values.items():
        items = [value] if isinstance(value, str) else value or []
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            notes.add(f"foreign_{name}", f"{{n}} queries have metadata.{name} that is no list of strings: ignored")
            items = []
        texts[name] = tuple(item for item in items if item.strip())
    task, origin = metadata.get("task"), metadata.get("origin")
    return Query(
        query_id=key,
        text=text,
        task=task if isinstance(task, str) else "",
        origin=origin if isinstance(origin, str) and origin in ORIGINS else "user",
        answers=texts["answers"],
        history=texts["history"],
    )


def _read_all_qrels(
    folder: Path,
    passages: Mapping[str, Passage | None],
    queries: Mapping[str, Query | None],
    problems: list[Problem],
    notes: Notes,
) -> Mapping[str, Qrels]:
    paths = sorted((folder / "qrels").glob("*.tsv"), key=lambda path: (_rank(path.stem), path.stem))
    if not (folder / "queries.jsonl").exists():
        notes.add("qrels_unread", "{n} qrels files were not read, for want of queries", len(paths))
        return {}
    judged = {path.stem: _read_qrels(path, passages, queries, problems, notes) for path in paths}
    used = {query_id for qrels in judged.values() for query_id in qrels}
    notes.add("unjudged_queries", "{n} queries have no judgement in any split: unused", len(queries.keys() - used))
    return judged


def _rank(name: str) -> int:
    return SPLITS.index(name) if name in SPLITS else len(SPLITS)


def _read_qrels(
    path: Path,
    passages: Mapping[str, Passage | None],
    queries: Mapping[str, Query | None],
    problems: list[Problem],
    notes: Notes,
) -> dict[str, dict[str, int]]:
    """The first line is a header exactly when its score is no number."""
    qrels: dict[str, dict[str, int]] = {}
    for position, (number, text) in enumerate(read_lines(path, problems)):
        columns = text.split("\t")
        fields = Fields(str(path), number, {}, problems)
        if position == 0 and not is_number(columns[2] if len(columns) > 2 else columns[-1]):
            continue
        if len(columns) != 3:
            fields.fault("", f"{len(columns)} columns where 3 belong", _LINE)
            continue
        query_id, passage_id, score = columns
        if query_id not in queries:
            fields.fault("query-id", f"unknown query {query_id!r}", "add it to queries.jsonl or remove the line")
        if passages and passage_id not in passages:  # an empty corpus is a problem of its own
            fields.fault("corpus-id", f"unknown passage {passage_id!r}", "add it to corpus.jsonl or remove the line")
        if not GRADE.fullmatch(score.strip()):
            fields.fault("score", f"{score!r} is not an integer", "give 0 (not relevant), 1, 2, ...")
            continue
        grades = qrels.setdefault(query_id, {})
        if passage_id in grades:
            if grades[passage_id] != int(score):
                message = f"{query_id!r}, {passage_id!r} was judged {grades[passage_id]} before"
                fields.fault("score", message, "keep one of the two")
            notes.add("repeated_judgements", "{n} judgements stand twice")
        grades[passage_id] = int(score)
    return qrels


def _passage_row(passage: Passage) -> dict[str, Any]:
    metadata = dict(passage.metadata)
    if passage.doc_id != passage.passage_id:
        metadata["doc_id"] = passage.doc_id
    if (passage.start, passage.end) != (0, len(passage.text)):
        metadata |= {"start": passage.start, "end": passage.end}
    if passage.headings:
        metadata["headings"] = list(passage.headings)
    if passage.withheld:
        metadata["withheld"] = [list(span) for span in passage.withheld]
    row: dict[str, Any] = {"_id": passage.passage_id, "title": passage.title, "text": passage.text}
    return row | ({"metadata": metadata} if metadata else {})


def _query_row(query: Query) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if query.answers:
        metadata["answers"] = list(query.answers)
    if query.history:
        metadata["history"] = list(query.history)
    if query.task:
        metadata["task"] = query.task
    if query.origin != "user":
        metadata["origin"] = query.origin
    row: dict[str, Any] = {"_id": query.query_id, "text": query.text}
    return row | ({"metadata": metadata} if metadata else {})
