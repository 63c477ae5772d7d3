"""``bessemer validate``: what is in the data, what is doubtful, what is wrong. Nothing is changed."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bessemer.config import Config
from bessemer.corpus.read import read_documents
from bessemer.errors import DataError, Problem
from bessemer.formats import Columns, Loaded, Triplet, load_collection, read_pairs
from bessemer.recipes.data import columns_of, open_encoder, require_one_input, text_length

CountTokens = Callable[[Sequence[str]], Sequence[int]]
WIDTH = 80


@dataclass(frozen=True)
class Lengths:
    """Lengths of texts, empty ones included; quantiles by nearest rank. ``n_truncated`` is None without a limit."""

    unit: str
    n: int
    mean: float
    median: int
    p95: int
    longest: int
    n_truncated: int | None = None

    @property
    def truncation_share(self) -> float | None:
        return None if self.n_truncated is None else self.n_truncated / max(1, self.n)


@dataclass(frozen=True)
class SplitCounts:
    """``n_positives``: judgements above 0."""

    n_queries: int
    n_judgements: int
    n_positives: int
    n_with_answers: int


@dataclass(frozen=True)
class Validation:
    """The findings. ``problems`` forbid use (exit 3); ``warnings`` do not."""

    data: str
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    n_documents: int = 0
    n_passages: int = 0
    n_pairs: int = 0
    splits: Mapping[str, SplitCounts] = field(default_factory=dict)
    grades: Mapping[int, int] = field(default_factory=dict)
    lengths: Mapping[str, tuple[Lengths, ...]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


def validate(
    data: str | Path,
    *,
    seed: int = 42,
    require: Sequence[str] = (),
    count_tokens: CountTokens | None = None,
    max_length: int | None = None,
    query_max_length: int | None = None,
    columns: Columns | None = None,
) -> Validation:
    """Read ``data`` (all that ``--data`` takes) and report on it; faults become ``problems``, they are not raised.

    ``count_tokens`` is the target model's, without special tokens; ``max_length`` and ``query_max_length`` are the
    tokens that it keeps of a passage and of a query, counted alike. ``columns`` maps the columns of other layouts.
    """
    count = _Counter(count_tokens, {"passages": max_length, "queries": query_max_length or max_length})
    try:
        if Path(data).suffix == ".tsv":
            return _validate_pairs(data, count)
        return _validate_collection(data, load_collection(data, seed=seed, require=require, columns=columns), count)
    except DataError as error:
        return Validation(str(data), problems=error.problems)


def validate_input(config: Config, tokens: bool) -> tuple[Validation, str]:
    """Check ``config.data`` or ``config.source``; ``tokens``: count them as ``config.model`` does."""
    require_one_input(config)
    encoder = open_encoder(config, config.model) if tokens else None
    if config.source:
        found = _validate_source(config, encoder.count_tokens if encoder else None)
    else:
        found = validate(
            config.data or "",
            seed=config.seed,
            count_tokens=encoder.count_tokens if encoder else None,
            max_length=text_length(encoder, "passage") if encoder else None,
            query_max_length=text_length(encoder, "query") if encoder else None,
            columns=columns_of(config),
        )
    return found, render(found)


def _validate_source(config: Config, count_tokens: CountTokens | None) -> Validation:
    """What would be read of a folder of documents; a file left out is a warning with its reason."""
    source = config.source or ""
    try:
        read = read_documents(source, config.chunking)
    except DataError as error:
        return Validation(source, problems=error.problems)
    count = _Counter(count_tokens, {})
    return Validation(
        data=source,
        warnings=tuple(f"{item.id}: {item.stage}: {item.reason}" for item in read.dropped),
        n_documents=len(read.kept),
        lengths={"documents": count.lengths("documents", [document.text for document in read.kept])},
        counts=dict(Counter(item.reason for item in read.dropped)),
    )


@dataclass(frozen=True)
class _Counter:
    count_tokens: CountTokens | None
    limits: Mapping[str, int | None]

    def lengths(self, side: str, texts: Sequence[str]) -> tuple[Lengths, ...]:
        """In characters, and in tokens where they can be counted."""
        if not texts:
            return ()
        characters = _summary("characters", [len(text) for text in texts], None)
        if self.count_tokens is None:
            return (characters,)
        return characters, _summary("tokens", self.count_tokens(texts), self.limits.get(side))


def _summary(unit: str, lengths: Sequence[int], limit: int | None) -> Lengths:
    ordered = sorted(lengths)
    n = len(ordered)
    return Lengths(
        unit=unit,
        n=n,
        mean=sum(ordered) / n,
        median=ordered[math.ceil(0.5 * n) - 1],
        p95=ordered[math.ceil(0.95 * n) - 1],
        longest=ordered[-1],
        n_truncated=None if limit is None else sum(length > limit for length in ordered),
    )


def _validate_collection(data: str | Path, loaded: Loaded, count: _Counter) -> Validation:
    collection = loaded.collection
    grades: Counter[int] = Counter()
    splits: dict[str, SplitCounts] = {}
    queries: dict[str, str] = {}
    for name, judged in collection.splits.items():
        values = [grade for judgements in judged.qrels.values() for grade in judgements.values()]
        n_with_answers = sum(bool(query.answers) for query in judged.queries)
        splits[name] = SplitCounts(len(judged.queries), len(values), sum(grade > 0 for grade in values), n_with_answers)
        grades.update(values)
        queries.update({query.query_id: query.searched_text for query in judged.queries})
    sides = {
        "passages": [passage.indexed_text for passage in collection.passages],
        "queries": list(queries.values()),
    }
    return Validation(
        data=str(data),
        warnings=loaded.warnings,
        n_documents=len({passage.doc_id for passage in collection.passages}),
        n_passages=len(collection.passages),
        splits=splits,
        grades=dict(sorted(grades.items())),
        lengths={side: lengths for side, texts in sides.items() if (lengths := count.lengths(side, texts))},
        counts=loaded.counts,
    )


def _validate_pairs(data: str | Path, count: _Counter) -> Validation:
    pairs = read_pairs(data)
    texts: list[str] = []
    for pair in pairs:
        if isinstance(pair, Triplet):
            texts += [pair.anchor, pair.positive, pair.negative]
        else:
            texts += [pair.left, pair.right]
    n_repeated = len(pairs) - len(set(pairs))
    return Validation(
        data=str(data),
        warnings=(f"{n_repeated} pairs repeat an earlier one",) if n_repeated else (),
        n_pairs=len(pairs),
        lengths={"texts": count.lengths("passages", texts)},
        counts={"duplicate_pairs": n_repeated} if n_repeated else {},
    )


def render(validation: Validation) -> str:
    """Plain text, at most 80 columns wide; problems stand one per line, as long as they are."""
    lines = [f"data      {validation.data}"]
    if validation.problems:
        lines += [str(problem) for problem in validation.problems]
        return _printable([*lines, _counted(len(validation.problems), "problem")])
    lines += _figures(validation)
    for warning in validation.warnings:
        lines += textwrap.wrap(warning, WIDTH, initial_indent="warning   ", subsequent_indent=" " * 10)
    return _printable([*lines, f"no problems, {_counted(len(validation.warnings), 'warning')}"])


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _figures(validation: Validation) -> list[str]:
    lines: list[str] = []
    if validation.n_pairs:
        lines.append(f"pairs     {validation.n_pairs:>8}")
    elif not validation.n_passages:
        lines.append(f"documents {validation.n_documents:>8}")
    else:
        lines.append(f"passages  {validation.n_passages:>8}   of {validation.n_documents} documents")
    for name, split in validation.splits.items():
        answers = f", {split.n_with_answers} with answers" if split.n_with_answers else ""
        per_query = split.n_positives / max(1, split.n_queries)
        lines.append(f"{name:<9} {split.n_queries:>8} queries, {per_query:.2f} relevant each{answers}")
    if len(validation.grades) > 1:
        graded = ", ".join(f"{grade}: {n}" for grade, n in validation.grades.items())
        lines += textwrap.wrap(graded, WIDTH, initial_indent="grades    ", subsequent_indent=" " * 10)
    if validation.lengths:
        lines.append(f"{'length':<20} {'mean':>8} {'median':>8} {'95%':>8} {'longest':>8}  truncated")
    for side, summaries in validation.lengths.items():
        for item in summaries:
            numbers = f"{item.mean:>8.1f} {item.median:>8} {item.p95:>8} {item.longest:>8}"
            share = item.truncation_share
            truncated = "" if share is None else f"  {item.n_truncated} ({share:.1%})"
            lines.append(f"{side + ', ' + item.unit:<20} {numbers}{truncated}")
    return lines


def _printable(lines: Iterable[str]) -> str:
    """Control characters of hostile data become escapes: none reaches a terminal."""
    return "\n".join("".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines)
