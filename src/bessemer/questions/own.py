"""People's own questions (``--queries``): JSONL lines that name the passage, or the file and a quote from it; or what a
search service was told by those who used it."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from bessemer.errors import DataError, Problem
from bessemer.formats.lines import Fields, read_jsonl
from bessemer.text import folded, normal_form, plain_inline, unit_spans
from bessemer.types import Document, Dropped, Judged, Passage, Query

STAGE = "own questions"
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OwnQuestions:
    """Judged queries per split, and the lines that could not be resolved."""

    splits: Mapping[str, Judged]
    dropped: tuple[Dropped, ...] = ()


def own_questions(
    path: str | Path,
    documents: Sequence[Document],
    passages: Sequence[Passage],
    splits: Mapping[str, str],
    left_out: Sequence[Dropped] = (),
) -> OwnQuestions:
    """Read ``query`` with ``passage_id`` (one or a list), or with ``source`` and perhaps ``quote``, per line.

    ``source`` is a doc_id (the path in the source folder). A quote is looked for as it is, then by its words alone, and
    stands for all passages that it overlaps; in a heading, for those of its section; in a duplicate that is among
    ``left_out``, for the passage that was kept. The first place that has any counts. Without a quote, all passages of
    the file are relevant. Optional: ``relevance`` (an integer, default 1), ``answers`` (a list of strings), ``id``.
    Lines of the same query are one query. Feedback has ``helpful`` (true or false) in place of ``relevance``, and
    ``time`` (ISO 8601): of several judgements of the same query and passage the newest counts, of the same time the
    last in the file. Queries of which nothing is relevant in the end are dropped.

    A query belongs to the split of its relevant documents. One that needs documents of train *and* of dev or test
    would leak either way: it goes to ``seen``, where it is measured but not trained on; one of dev and test goes to
    test.

    A line whose passage, file or quote is not there is dropped with its place. Raises DataError for broken lines, all
    of them, or when no line could be resolved.
    """
    problems: list[Problem] = []
    dropped: list[Dropped] = []
    library = _Library(documents, passages, left_out)
    queries: dict[str, Query] = {}
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    told: dict[tuple[str, str], datetime] = {}
    for number, values in read_jsonl(path, problems):
        line = _Line.parse(Fields(str(path), number, values, problems))
        if line is None:
            continue
        passage_ids, fault = library.resolve(line)
        if fault:
            dropped.append(Dropped(f"{path}:{number}", STAGE, fault, line.query))
            continue
        query = queries.setdefault(line.query_id, Query(line.query_id, line.query, origin="user", answers=line.answers))
        if folded(query.text) != folded(line.query):
            problems.append(
                Problem(str(path), number, "id", f"{line.query_id!r} is another query", "give it its own id")
            )
        for passage_id in passage_ids:
            place = (line.query_id, passage_id)
            if line.time is None:
                qrels[line.query_id][passage_id] = max(line.relevance, qrels[line.query_id].get(passage_id, 0))
            elif line.time >= told.get(place, line.time):
                told[place] = line.time
                qrels[line.query_id][passage_id] = line.relevance
    unmet = [query_id for query_id in queries if not any(qrels[query_id].values())]
    dropped += [Dropped(key, STAGE, "none of its passages is relevant", queries.pop(key).text) for key in unmet]
    if not problems and not queries:
        faults = [Problem(item.id, None, "", item.reason, "correct the line") for item in dropped]
        problems = faults or [
            Problem(str(path), None, "", "holds no queries", 'write {"query": ..., "source": ...} lines')
        ]
    if problems:
        raise DataError(problems)
    judged = _by_split(queries, qrels, {p.passage_id: splits[p.doc_id] for p in passages})
    return OwnQuestions(judged, tuple(dropped))


@dataclass(frozen=True, slots=True)
class _Line:
    query_id: str
    query: str
    passage_ids: tuple[str, ...]
    source: str
    quote: str
    relevance: int
    answers: tuple[str, ...]
    time: datetime | None
    """None but for feedback."""

    @classmethod
    def parse(cls, fields: Fields) -> _Line | None:
        """The checked fields of a line; faults are reported and give None."""
        n_before = len(fields.problems)
        query = fields.text("query") or ""
        if not query.strip() and len(fields.problems) == n_before:
            fields.fault("query", "is empty", "write the question")
        passage_ids = _passage_ids(fields)
        source = fields.text("source", optional=True) or ""
        quote = fields.text("quote", optional=True) or ""
        if not passage_ids and not source and len(fields.problems) == n_before:
            fields.fault("source", "neither passage_id nor source", 'name the "passage_id", or the file as "source"')
        relevance, time = _feedback(fields) if "helpful" in fields.values else (_relevance(fields), None)
        answers = fields.texts("answers") or ()
        given_id = fields.identifier("id", optional=True)
        if len(fields.problems) > n_before:
            return None
        text = " ".join(query.split())
        digest = hashlib.sha256(folded(text).encode("utf-8")).hexdigest()[:16]
        return cls(given_id or f"own-{digest}", text, passage_ids, source, quote, relevance, answers, time)


def _relevance(fields: Fields) -> int:
    relevance: Any = fields.values.get("relevance", 1)
    if isinstance(relevance, int) and not isinstance(relevance, bool) and relevance >= 0:
        return relevance
    fields.fault("relevance", f"is {relevance!r}", "give an integer from 0 on")
    return 1


def _feedback(fields: Fields) -> tuple[int, datetime]:
    helpful, time = fields.values["helpful"], fields.values.get("time")
    if not isinstance(helpful, bool):
        fields.fault("helpful", f"is {helpful!r}", "give true or false")
    if "relevance" in fields.values:
        fields.fault("relevance", "stands beside helpful", "leave one of them out")
    try:
        found = LONG_AGO if time is None else datetime.fromisoformat(time)
    except (TypeError, ValueError):
        fields.fault("time", f"is {time!r}", "give a time such as 2026-11-21T17:30:00Z")
        found = LONG_AGO
    return int(helpful is True), found if found.tzinfo else found.replace(tzinfo=UTC)


def _passage_ids(fields: Fields) -> tuple[str, ...]:
    value = fields.values.get("passage_id")
    if isinstance(value, list):
        return fields.identifiers("passage_id") or ()
    one = fields.identifier("passage_id", optional=True)
    return (one,) if one else ()


class _Library:
    """Finds passages by id, file or quote."""

    def __init__(self, documents: Sequence[Document], passages: Sequence[Passage], left_out: Sequence[Dropped]) -> None:
        self.documents = {document.doc_id: document for document in documents}
        self.passages = {passage.passage_id: passage for passage in passages}
        self.of_document: dict[str, list[Passage]] = defaultdict(list)
        for passage in passages:
            self.of_document[passage.doc_id].append(passage)
        self.duplicates = {item.id: item for item in left_out if item.passage_id}

    def resolve(self, line: _Line) -> tuple[list[str], str]:
        """The relevant passages, or why there are none."""
        if line.passage_ids:
            unknown = [passage_id for passage_id in line.passage_ids if passage_id not in self.passages]
            return list(line.passage_ids), f"passage_id {unknown[0]!r} is not in the corpus" if unknown else ""
        as_path = line.source.replace("\\", "/").removeprefix("./")
        document = self.documents.get(line.source) or self.documents.get(as_path)
        if document is None:
            return [], f"source {line.source!r} is not among the documents read"
        members = self.of_document[document.doc_id]
        if not line.quote.strip():
            fault = "" if members else f"source {line.source!r} has no passages left"
            return [passage.passage_id for passage in members], fault
        places = find_quote(document.text, line.quote)
        if not places:
            return [], f"quote is not in {line.source!r}"
        hit = next(filter(None, (self._at(document, *place) for place in places)), [])
        reason = "a heading without passages, too short, or a near-duplicate of a passage without these words"
        return hit, "" if hit else f"quote is in text that became no passage ({reason})"

    def _at(self, document: Document, start: int, end: int) -> list[str]:
        """The passages that a place of the text stands for."""
        members = self.of_document[document.doc_id]
        hit = [passage.passage_id for passage in members if passage.start < end and start < passage.end]
        return hit or self._of_section(document, start, end) or self._kept_instead(document, start, end)

    def _of_section(self, document: Document, start: int, end: int) -> list[str]:
        """Those under the heading whose line holds the place, if it is one."""
        line_start = document.text.rfind("\n", 0, start) + 1
        line_end = document.text.find("\n", end)
        heading = normal_form(plain_inline(document.text[line_start : max(line_end, end)]))
        behind = [passage for passage in self.of_document[document.doc_id] if passage.start >= end]
        forms = [normal_form(one) for one in behind[0].headings] if behind else []
        if heading not in forms:
            return []
        path = behind[0].headings[: forms.index(heading) + 1]
        section = takewhile(lambda passage: passage.headings[: len(path)] == path, behind)
        return [passage.passage_id for passage in section]

    def _kept_instead(self, document: Document, start: int, end: int) -> list[str]:
        """Those kept in place of duplicates that hold the quote; a near-duplicate may lack its words."""
        quote = document.text[start:end]
        form = f" {normal_form(quote)} "
        hit = []
        for item in self.duplicates.values():
            if quote not in item.text or item.text not in document.text:
                continue
            while item.passage_id in self.duplicates:  # a duplicate of what is itself a near-duplicate
                item = self.duplicates[item.passage_id]
            kept = self.passages.get(item.passage_id)
            if kept and form in f" {normal_form(kept.text)} ":
                hit.append(kept.passage_id)
        return list(dict.fromkeys(hit))


def find_quote(text: str, quote: str) -> list[tuple[int, int]]:
    """Where the quote stands: as it is, else with any white space, else by its words without case and marks."""
    for pattern in (re.escape(quote.strip()), r"\s+".join(map(re.escape, quote.split()))):
        found = [match.span() for match in re.finditer(pattern, text)]
        if found:
            return found
    words, spans = normal_form(quote).split(), unit_spans(text)
    return [
        (spans[first][1], spans[first + len(words) - 1][2])
        for first in range(len(spans) - len(words) + 1 if words else 0)
        if all(spans[first + offset][0] == word for offset, word in enumerate(words))
    ]


def _by_split(
    queries: Mapping[str, Query], qrels: Mapping[str, Mapping[str, int]], split_of: Mapping[str, str]
) -> Mapping[str, Judged]:
    members: dict[str, list[str]] = {"train": [], "dev": [], "test": [], "seen": []}
    for query_id in queries:
        touched = {split_of[passage_id] for passage_id, relevance in qrels[query_id].items() if relevance > 0}
        touched = touched or {split_of[passage_id] for passage_id in qrels[query_id]}
        if len(touched) == 1:
            members[touched.pop()].append(query_id)
        else:
            members["seen" if "train" in touched else "test"].append(query_id)
    return {
        split: Judged(
            tuple(queries[query_id] for query_id in ids), {query_id: dict(qrels[query_id]) for query_id in ids}
        )
        for split, ids in members.items()
    }
