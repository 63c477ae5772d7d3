"""The systems that `evaluate` understands: NAME=SPEC, read, checked and run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.encoder import Encoded, Encoder, Similarity
from bessemer.encoders.kinds import kind_of
from bessemer.errors import ArtifactError, ConfigError
from bessemer.evaluation.evaluate import fuse_runs, rerank_run, run_lanes, run_system
from bessemer.questions.withhold import extracted_from
from bessemer.recipes.data import open_search_encoder
from bessemer.recipes.lane_models import TAKEN, misfit, open_multi_vector, open_sparse, open_unified
from bessemer.recipes.systems import (
    bm25_over,
    dense_over,
    multi_vectors_over,
    run_dense,
    sparse_over,
    tfidf_over,
    unified_over,
)  # fmt: skip
from bessemer.search.index import Index, open_index
from bessemer.search.ranking import sort_hits
from bessemer.search.rerank import CrossEncoderReranker
from bessemer.search.retriever import LANE_DEPTH
from bessemer.search.sparse import active_dimensions
from bessemer.types import Hits, Judged, Passage, Run

LANES = ("dense", "sparse", "multi")
"""What a unified system reports beside itself, as NAME.LANE."""

Named = Mapping[str, tuple[str, str]]
"""System name -> (kind, argument)."""


@dataclass(frozen=True)
class Setting:
    """What every system runs on, the runs of those named before, what is told of each beside its measures, and what to
    know besides."""

    config: Config
    passages: tuple[Passage, ...]
    judged: Judged
    similarities: tuple[Similarity, ...]
    runs: dict[str, Run] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run_of(self, name: str) -> Run:
        """Of a system named before; of several similarities that of cosine."""
        return self.runs[name] if name in self.runs else self.runs[f"{name}-cosine"]

    @property
    def top_k(self) -> int:
        return self.config.evaluation.top_k


def parse_systems(systems: Sequence[str]) -> Named:
    """NAME=SPEC to name -> (kind, argument). Raises ConfigError with every fault."""
    named: dict[str, tuple[str, str]] = {}
    runs: set[str] = set()
    faults = []
    for system in systems:
        name, given, spec = system.partition("=")
        kind, _, argument = spec.partition(":")
        if not given or not name or kind not in SPECS:
            fault = f"not NAME=SPEC with SPEC one of {SPELLED}"
        elif not re.fullmatch(r"\w[\w.-]*", name):  # run files are named after it
            fault = "a name is letters, digits, dots and dashes"
        else:
            taken = sorted(runs & set(_run_names(name, kind)))
            fault = f"the name {taken[0]} is taken; give another" if taken else _argument_fault(kind, argument, runs)
        if fault:
            faults.append(f"--system {system}: {fault}")
        named[name] = (kind, argument)
        runs |= set(_run_names(name, kind))
    if not systems:
        faults.append("give at least one --system, as in --system base=dense:minilm --system bm25=bm25")
    if faults:
        raise ConfigError("\n".join(faults))
    return named


def check_models(named: Named, revision: str | None) -> None:
    """Raises ConfigError with every model that is not there or is of another kind than its system asks for, and every
    index that does not open: before the first of them runs."""
    faults = []
    for name, (kind, argument) in named.items():
        model = argument.partition(":")[2] if kind == "rerank" else argument
        why = misfit(kind, model, revision) if kind in TAKEN else ""
        if kind == "index":
            why = _no_index(argument)
        if why:
            faults.append(f"--system {name}={kind}:{argument}: {why}")
    if faults:
        raise ConfigError("\n".join(faults))


def check_extracted(named: Named, judged: Judged, passages: Sequence[Passage]) -> None:
    """Raises ConfigError where an index would be measured by queries that stand word for word in what it holds."""
    n = len(extracted_from(judged, passages))
    faults = [
        f"--system {name}=index:{argument}: {n} of the {len(judged.queries)} queries were extracted from passages that "
        "the index holds whole, so that it finds them word for word; measure dense:MODEL on this data, or the index on "
        "questions of people"
        for name, (kind, argument) in named.items()
        if kind == "index" and n
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _no_index(location: str) -> str:
    try:
        open_index(location).engine.close()  # a shard of Qdrant Edge that stays open opens for nobody else
    except (ArtifactError, ConfigError) as error:
        return str(error)
    return ""


def _run_names(name: str, kind: str) -> list[str]:
    return [*(f"{name}.{lane}" for lane in LANES), name] if kind == "unified" else [name]


def _argument_fault(kind: str, argument: str, runs: set[str]) -> str:
    asked = SPECS[kind].argument
    if bool(asked) != bool(argument):
        return f"{kind} takes {'an argument after a colon' if asked else 'no argument'}"
    if kind == "hybrid" and not set(argument.split("+")) <= runs:
        return "fuses systems named before it, as in hybrid:bm25+base"
    if kind == "rerank":
        first, _, model = argument.partition(":")
        if first not in runs or not model:
            return "reranks a system named before it by a model, as in rerank:bm25:MODEL"
    return ""


def _bm25(setting: Setting, name: str, _: str) -> list[Run]:
    return [run_system(name, bm25_over(setting.passages), setting.judged.queries, setting.top_k)]


def _tfidf(setting: Setting, name: str, _: str) -> list[Run]:
    return [run_system(name, tfidf_over(setting.passages), setting.judged.queries, setting.top_k)]


def _dense(setting: Setting, name: str, model: str) -> list[Run]:
    """One run, or one per asked similarity, named NAME-cosine and NAME-dot."""
    opened, task = open_search_encoder(setting.config, model), setting.config.task
    if task and task not in opened.task_prompts:
        setting.notes.append(f"{name}: {model} has no prompts for task {task}: its own were used.")
    encoder = CachedEncoder(opened, setting.config.workspace_folder / "embeddings")
    similarities = setting.similarities or (encoder.similarity,)
    return [
        run_dense(
            name if len(similarities) == 1 else f"{name}-{similarity}",
            dense_over(setting.passages, encoder, similarity),
            setting.judged.queries,
            setting.top_k,
        )
        for similarity in similarities
    ]


def _sparse(setting: Setting, name: str, model: str) -> list[Run]:
    encoder = open_sparse(setting.config, model)
    retriever, passages = sparse_over(setting.passages, encoder)
    lanes = {name: retriever.search_encoded}
    runs, queries = run_lanes(encoder.encode_queries, lanes, setting.judged.queries, setting.top_k)
    setting.facts[name] = _of_sparse(queries, passages)
    _note_cuts(setting, name, encoder)
    return runs


def _multi(setting: Setting, name: str, model: str) -> list[Run]:
    encoder = open_multi_vector(setting.config, model)
    retriever, passages = multi_vectors_over(setting.passages, encoder)
    lanes = {name: retriever.search_encoded}
    runs, _ = run_lanes(encoder.encode_queries, lanes, setting.judged.queries, setting.top_k)
    setting.facts[name] = _of_multi_vectors(passages)
    _note_cuts(setting, name, encoder)
    return runs


def _unified(setting: Setting, name: str, model: str) -> list[Run]:
    """NAME.dense, NAME.sparse, NAME.multi, and last NAME, the ensemble; everything is encoded once."""
    encoder = open_unified(setting.config, model)
    retriever, passages = unified_over(setting.passages, encoder)
    lanes = {f"{name}.{lane}": retriever.lanes[lane] for lane in LANES} | {name: retriever.search_encoded}
    runs, queries = run_lanes(retriever.encode, lanes, setting.judged.queries, setting.top_k)
    of_sparse, of_multi = _of_sparse(queries, passages), _of_multi_vectors(passages)
    setting.facts[f"{name}.sparse"], setting.facts[f"{name}.multi"] = of_sparse, of_multi
    setting.facts[name] = {**of_sparse, **of_multi, "lane_weights": retriever.weights._asdict()}
    _note_cuts(setting, name, encoder)
    return runs


def _hybrid(setting: Setting, name: str, argument: str) -> list[Run]:
    return [fuse_runs(name, [setting.run_of(lane) for lane in argument.split("+")], setting.top_k)]


def _rerank(setting: Setting, name: str, argument: str) -> list[Run]:
    first, _, model = argument.partition(":")
    run = _of_the_data(setting, name, setting.run_of(first))
    is_cross_encoder = kind_of(model, setting.config.trust_remote_code) in ("cross-encoder", None)
    by = _by_cross_encoder if is_cross_encoder else _by_multi_vectors
    return [rerank_run(name, run, by(setting, name, run, model), setting.judged.queries)]


def _index(setting: Setting, name: str, location: str) -> list[Run]:
    """As it is searched: lanes, questions and weights in all."""
    index = open_index(location, **setting.config.runtime)
    with closing(index.engine):
        missing = sum(passage.passage_id not in index.passage_ids for passage in setting.passages)
        if missing:
            told = f"{missing} of {len(setting.passages)} passages of the data are not in the index."
            setting.notes.append(f"{name}: {told}")
        return [run_system(name, _IndexRetriever(index), setting.judged.queries, setting.top_k)]


@dataclass(frozen=True)
class _IndexRetriever:
    """A query without a word finds nothing, as with other systems."""

    index: Index

    def search(self, texts: Sequence[str], top_k: int) -> list[Hits]:
        found = (self.index.search(text, top_k) if text.strip() else [] for text in texts)
        return [[(hit["passage_id"], hit["score"]) for hit in hits] for hits in found]


def _of_the_data(setting: Setting, name: str, run: Run) -> Run:
    """Without hits whose texts are not at hand: an index may hold other passages than the data."""
    known = {passage.passage_id for passage in setting.passages}
    results = {query: [hit for hit in hits if hit[0] in known] for query, hits in run.results.items()}
    n = sum(map(len, run.results.values())) - sum(map(len, results.values()))
    if n:
        setting.notes.append(f"{name}: {n} hits of {run.name} are no passages of the data and were not reranked.")
    return replace(run, results=results)


Rerank = Callable[[Sequence[str], Sequence[Hits]], Sequence[Hits]]


def _by_cross_encoder(setting: Setting, name: str, run: Run, model: str) -> Rerank:
    reranker = CrossEncoderReranker(model, setting.config.device)
    texts = {passage.passage_id: passage.indexed_text for passage in setting.passages}

    def rerank(queries: Sequence[str], lists: Sequence[Hits]) -> Sequence[Hits]:
        pairs = [(query, texts[p]) for query, hits in zip(queries, lists, strict=True) for p, _ in hits]
        n_cut = sum(reranker.are_cut(pairs))
        if n_cut:
            setting.notes.append(f"{name}: {n_cut} of {len(pairs)} pairs were cut to the model's length.")
        scores = iter(reranker(pairs).tolist())
        return [sort_hits([(passage_id, next(scores)) for passage_id, _ in hits]) for hits in lists]

    return rerank


def _by_multi_vectors(setting: Setting, name: str, run: Run, model: str) -> Rerank:
    """Only passages that may be reranked are encoded, and before the clock starts."""
    encoder = open_multi_vector(setting.config, model)
    found = {passage_id for hits in run.results.values() for passage_id, _ in hits[:LANE_DEPTH]}
    retriever, vectors = multi_vectors_over([p for p in setting.passages if p.passage_id in found], encoder)
    setting.facts[name] = _of_multi_vectors(vectors)

    def rerank(queries: Sequence[str], lists: Sequence[Hits]) -> Sequence[Hits]:
        reranked = retriever.rerank(encoder.encode_queries(queries), lists)
        _note_cuts(setting, name, encoder)
        return reranked

    return rerank


def _of_sparse(queries: Encoded, passages: Encoded) -> dict[str, Any]:
    assert queries.sparse is not None
    assert passages.sparse is not None
    mean = {"query": active_dimensions(queries.sparse), "passage": active_dimensions(passages.sparse)}
    return {"active_dimensions": mean}


def _of_multi_vectors(passages: Encoded) -> dict[str, Any]:
    vectors = passages.multi_vector
    assert vectors is not None
    return {"bytes_per_passage": vectors.n_bytes / len(vectors) if len(vectors) else 0.0}


def _note_cuts(setting: Setting, name: str, encoder: Any) -> None:
    cut: Mapping[str, int] = encoder.n_truncated
    pruned: Mapping[str, int] = getattr(encoder, "n_pruned", {})
    if any(cut.values()):
        counts = f"{cut['passage']} passages and {cut['query']} queries"
        setting.notes.append(f"{name}: {counts} were cut to the model's length.")
    if any(pruned.values()):
        counts = f"{pruned['passage']} weights of passages and {pruned['query']} of queries"
        setting.notes.append(f"{name}: {counts}, the weakest of long texts, were left out of the sparse vectors.")


@dataclass(frozen=True)
class Spec:
    """How a kind of system is spelled, and run."""

    run: Callable[[Setting, str, str], list[Run]]
    argument: str = ""


SPECS: Mapping[str, Spec] = {
    "bm25": Spec(_bm25),
    "tfidf": Spec(_tfidf),
    "dense": Spec(_dense, "MODEL"),
    "sparse": Spec(_sparse, "MODEL"),
    "multi": Spec(_multi, "MODEL"),
    "unified": Spec(_unified, "MODEL"),
    "hybrid": Spec(_hybrid, "NAME+NAME"),
    "index": Spec(_index, "INDEX"),
    "rerank": Spec(_rerank, "NAME:MODEL"),
}
ENCODERS: Mapping[str, Callable[[Config, str], Encoder]] = {
    "dense": open_search_encoder,
    "sparse": open_sparse,
    "multi": open_multi_vector,
    "unified": open_unified,
}
"""How those that encode the whole corpus open their model."""
SPELLED = ", ".join(f"{kind}:{spec.argument}" if spec.argument else kind for kind, spec in SPECS.items())
