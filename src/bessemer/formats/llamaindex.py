"""LlamaIndex's ``EmbeddingQAFinetuneDataset``: one JSON object with ``queries``, ``corpus`` and ``relevant_docs``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.errors import DataError, Problem
from bessemer.formats.lines import Fields, atomic_writer, kind
from bessemer.formats.loaded import Loaded, Notes, inspect
from bessemer.formats.splits import split_judged
from bessemer.types import Collection, Judged, Passage, Query

MAX_FILE_BYTES = 2 * 2**30


def read_llamaindex(path: str | Path, *, seed: int = 42, require: Sequence[str] = ()) -> Loaded:
    """Read the dataset; it has no splits, so it is split by clusters of shared positives. Raises DataError."""
    path = Path(path)
    problems: list[Problem] = []
    notes = Notes()
    values = _read_object(path, problems)
    if values is None:
        raise DataError(problems)
    fields = Fields(str(path), None, values, problems)
    texts = {name: _texts(fields, name) for name in ("corpus", "queries")}
    qrels = _relevant(fields, texts["corpus"], texts["queries"])
    queries = {key: Query(key, text) for key, text in texts["queries"].items() if key in qrels}
    notes.add("unjudged_queries", "{n} queries have no relevant passage: unused", len(texts["queries"]) - len(queries))
    splits = {} if problems else split_judged(queries, qrels, seed, notes)
    for name in require:
        if not problems and name not in splits:
            fields.fault("queries", f"too few for a {name} split", "give more, or a BEIR folder with its own splits")
    if problems:
        raise DataError(problems)
    passages = tuple(Passage(key, key, text, end=len(text)) for key, text in texts["corpus"].items())
    collection = Collection(path.stem, passages, splits)
    inspect(collection, notes)
    return Loaded(collection, notes.warnings(), dict(notes.counts))


def write_llamaindex(path: str | Path, judged: Judged, passages: Iterable[Passage]) -> None:
    """Write one split as the JSON that ``EmbeddingQAFinetuneDataset.from_json`` opens."""
    relevant = {
        query.query_id: [key for key, grade in judged.qrels.get(query.query_id, {}).items() if grade > 0]
        for query in judged.queries
    }
    dataset = {
        "queries": {query.query_id: query.text for query in judged.queries},
        "corpus": {passage.passage_id: passage.indexed_text for passage in passages},
        "relevant_docs": relevant,
        "mode": "text",
    }
    with atomic_writer(path) as stream:
        json.dump(dataset, stream, ensure_ascii=False, indent=4)


def _read_object(path: Path, problems: list[Problem]) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            problems.append(Problem(str(path), None, "", "larger than 2 GiB", "write a BEIR folder instead"))
            return None
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except OSError as error:
        problems.append(Problem(str(path), None, "", f"cannot be read ({error.strerror})", "check the path"))
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {error.msg} at column {error.colno}"
        problems.append(Problem(str(path), error.lineno, "", message, "write one JSON object"))
    except (ValueError, RecursionError):
        problems.append(
            Problem(str(path), None, "", "not UTF-8, or nested beyond reason", "save it as plain UTF-8 JSON")
        )
    else:
        if isinstance(value, dict):
            return value
        problems.append(Problem(str(path), None, "", f"holds {kind(value)}, not an object", "write one JSON object"))
    return None


def _texts(fields: Fields, name: str) -> dict[str, str]:
    value = fields.values.get(name)
    if not isinstance(value, dict) or not value:
        fields.fault(name, "is missing, empty or no object of texts by id", f'give "{name}": {{"id": "text"}}')
        return {}
    for key, text in value.items():
        if not isinstance(text, str):
            fields.fault(f"{name}.{key}", f"is {kind(text)}, not a string", "give the text")
    return value


def _relevant(fields: Fields, corpus: Mapping[str, str], queries: Mapping[str, str]) -> dict[str, dict[str, int]]:
    value = fields.values.get("relevant_docs")
    if not isinstance(value, dict):
        fields.fault("relevant_docs", "is missing or no object", 'give "relevant_docs": {"query id": ["id"]}')
        return {}
    qrels: dict[str, dict[str, int]] = {}
    for query_id, passage_ids in value.items():
        field = f"relevant_docs.{query_id}"
        if query_id not in queries:
            fields.fault(field, f"unknown query {query_id!r}", "add it to queries or remove it")
        if not isinstance(passage_ids, list):
            fields.fault(field, f"is {kind(passage_ids)} where a list of ids belongs", "give a list")
            continue
        for passage_id in passage_ids:
            if not isinstance(passage_id, str) or passage_id not in corpus:
                fields.fault(field, f"unknown passage {passage_id!r}", "add it to corpus or remove it")
        if passage_ids:
            qrels[query_id] = {str(passage_id): 1 for passage_id in passage_ids}
    return qrels
