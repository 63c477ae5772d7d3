"""The hybrid index: lanes of one store, fused by rank or by weighted scores, stamped with the model's fingerprint."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.encoders.encoder import OUTPUTS, Encoded, Encoder, Output, may_search
from bessemer.errors import ArtifactError, ConfigError
from bessemer.search.encoded_texts import texts_of, unified_in
from bessemer.search.explain import NO_TOKENS, explain
from bessemer.search.fusion import reciprocal_rank_fusion, weighted_fusion
from bessemer.search.index_manifest import MANIFEST, parsed_manifest, read_lexicon, read_manifest
from bessemer.search.question_index import LANE as QUESTIONS
from bessemer.search.question_index import QuestionLane
from bessemer.search.ranking import sort_hits
from bessemer.search.reranked import DEPTH as RERANKED
from bessemer.search.reranked import Reranker, pairs_of, reranked
from bessemer.search.retriever import LANE_DEPTH, unit_length
from bessemer.search.rewrite import Rewritten
from bessemer.search.stores.engines import open_engine
from bessemer.search.stores.filters import matches
from bessemer.search.stores.store import Engine, Filter
from bessemer.types import Hits, Passage

log = logging.getLogger("bessemer")

_OF_THE_MODEL = ("fingerprint", "task", "encoding")
_TRIES = 3


def open_index(
    location: str | Path | Engine,
    encoder: Encoder | None = None,
    task: str | None = None,
    backend: str | None = None,
    *,
    device: str | None = None,
    trust_remote_code: str | None = None,
) -> Index:
    """Open an index for searching: a folder, or what else one of our engines calls its location.

    Without ``encoder``, the model that the index names is loaded at the first search, on ``device`` and with the remote
    code that is trusted, or with ``backend`` the CPU build in that model's folder. Raises ArtifactError when the index
    is not finished, damaged, made by another model than ``encoder`` or for another task than ``task``.
    """
    engine = open_engine(location) if isinstance(location, str | Path) else location
    manifest = read_manifest(engine)
    if task is not None and task != manifest["task"]:
        raise ArtifactError(
            f"{engine.location}: built for the task {manifest['task'] or '(none)'}, not for {task}, whose passages "
            f"have other prompts; build one with `bessemer index --task {task}`"
        )
    return Index(engine, encoder, {"backend": backend, "device": device, "trust_remote_code": trust_remote_code})


class Index:
    """An open index: what was built when it was opened. ``manifest`` as written."""

    def __init__(
        self, engine: Engine, encoder: Encoder | None = None, how: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """``encoder``: its model, where it is open already; ``how`` to open it where not, as `open_for_search` has it.
        Raises ArtifactError and ConfigError as `open_index`."""
        self.engine = engine
        self.location = engine.location
        self._given, self._how = encoder, how
        self._open()

    @property
    def name(self) -> str:
        """The last part of the location."""
        return Path(self.location).name

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What of a query this index is searched by."""
        return OUTPUTS if "multi_vector" in self.manifest["lanes"] else ("dense",)

    @cached_property
    def encoder(self) -> Encoder:
        """The model of the index, or its CPU build. Raises ArtifactError when the one found is another, ConfigError
        when there is none."""
        if self._given is not None:
            return self._given
        from bessemer.encoders.search_encoder import open_for_search  # torch: only where a query must be encoded

        name = self.manifest["model"]
        beside = Path(self.location) / name
        lengths = {key: self.manifest["encoding"][key] for key in ("max_length", "query_max_length")}
        found = str(beside.resolve()) if beside.is_dir() else name
        encoder = open_for_search(found, **self._how, **lengths)
        encoder = encoder.for_task(self.manifest["task"])
        _check_fingerprint(self.location, self.manifest, encoder)
        return encoder

    def refreshed(self) -> Index:
        """What was built since, opened; this index itself where nothing was. It goes on as it is, for searches that
        are under way. Raises ArtifactError where what was built since cannot be opened."""
        if self.engine.read_fact(MANIFEST) == self._content:
            return self
        fresh = Index(self.engine, self._given, self._how)
        if "encoder" in self.__dict__:
            fresh.use_encoder_of([self])
        return fresh

    def use_encoder_of(self, others: Iterable[Index]) -> None:
        """Search by the model that one of ``others`` has open, where both were built by the same, alike."""
        for other in others:
            if all(self.manifest[key] == other.manifest[key] for key in _OF_THE_MODEL):
                self.__dict__["encoder"] = other.encoder
                return

    def search(
        self,
        query: str,
        top_k: int = 10,
        rewritten: Rewritten | None = None,
        *,
        with_tokens: bool = False,
        where: Filter = (),
        reranker: Reranker | None = None,
    ) -> list[dict[str, Any]]:
        """The best passages for ``query`` by reciprocal rank fusion of the lanes, or by weighted scores where dev
        queries have chosen weights: dense, BM25, and of a unified model sparse; what a language model made of the
        query is searched in lanes of its own beside them. Of a unified model the ``LANE_DEPTH`` best of that are ranked
        by their multi-vectors, and this ranking is fused as one more lane, `multi_vector`. Where the index has
        questions, these are a lane, too: a passage stands in it by the nearest of its questions. ``where``: every lane
        finds passages that meet it, and no others. ``reranker``: puts the best 50, or ``top_k``, into its own order.

        Each is ``{"passage_id", "doc_id", "score", "text", "metadata", "lanes"}``; ``lanes`` says at which rank and
        with which score of its own each lane found the passage, up to rank 100, and in the lane `questions` by which
        ``question``. With ``with_tokens`` each has ``explain``: see `bessemer.search.explain`. Raises ConfigError for
        an empty query and for ``top_k`` below 1.
        """
        _refuse_unsearchable(query, top_k)
        depth = max(top_k, RERANKED) if reranker else top_k
        hits = self.search_encoded(
            query, self._encoded([query]), depth, rewritten, with_tokens=with_tokens, where=where
        )
        return reranked(hits, reranker(pairs_of(query, hits)).tolist(), top_k) if reranker else hits

    def search_encoded(
        self,
        query: str,
        encoded: Encoded,
        top_k: int = 10,
        rewritten: Rewritten | None = None,
        *,
        with_tokens: bool = False,
        where: Filter = (),
    ) -> list[dict[str, Any]]:
        """As ``search``, for a query encoded elsewhere, with the ``outputs``."""
        _refuse_unsearchable(query, top_k)
        for _ in range(_TRIES - 1):
            try:
                return self._search_once(query, encoded, top_k, rewritten or Rewritten(), with_tokens, where)
            except KeyError:  # an update deleted a passage between a lane that found it and its text
                self.__dict__.pop("passage_ids", None)
        return self._search_once(query, encoded, top_k, rewritten or Rewritten(), with_tokens, where)

    def _search_once(
        self, query: str, encoded: Encoded, top_k: int, rewritten: Rewritten, with_tokens: bool, where: Filter
    ) -> list[dict[str, Any]]:
        """Raises KeyError where a passage is deleted meanwhile."""
        lanes, asked = self._lanes(query, encoded, max(top_k, LANE_DEPTH), rewritten, where)
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for lane, hits in lanes.items():
            for rank, (passage_id, score) in enumerate(hits, start=1):
                found.setdefault(passage_id, {})[lane] = {"rank": rank, "score": score}
        fused = self._fused(lanes)[:top_k]
        passages = self._store.passages([passage_id for passage_id, _ in fused])
        shown = {passage_id: asked[passage_id] for passage_id, _ in fused if passage_id in asked}
        if self._asked is not None and shown:
            for passage_id, question in zip(shown, self._asked.texts(list(shown.values())), strict=True):
                found[passage_id][QUESTIONS]["question"] = question
        return [
            {
                "passage_id": passage_id,
                "doc_id": passage.doc_id,
                "score": score,
                "text": passage.indexed_text,
                **({"metadata": dict(passage.metadata)} if passage.metadata else {}),
                "lanes": found[passage_id],
                **({"explain": self._explain(encoded, passage_id)} if with_tokens else {}),
            }
            for (passage_id, score), passage in zip(fused, passages, strict=True)
        ]

    def lanes(self, queries: Sequence[str]) -> list[dict[str, Hits]]:
        """What each lane finds for each query, ``LANE_DEPTH`` deep."""
        encoded = self._encoded(queries)
        each = (texts_of(encoded, slice(row, row + 1)) for row in range(len(queries)))
        return [
            self._lanes(query, one, LANE_DEPTH, Rewritten(), ())[0] for query, one in zip(queries, each, strict=True)
        ]

    def passages(self) -> Iterator[Passage]:
        """All of them, in any order."""
        return chain.from_iterable(self._store.all_passages())

    @cached_property
    def passage_ids(self) -> frozenset[str]:
        return frozenset(self._store.text_hashes())

    def holds(self, passage_id: str) -> bool:
        try:
            self._store.passages([passage_id])
        except KeyError:
            return False
        return True

    @cached_property
    def headings(self) -> tuple[str, ...]:
        """The outermost heading of every passage, or else its title, each once."""
        names = (passage.headings[0] if passage.headings else passage.title for passage in self.passages())
        return tuple(dict.fromkeys(name for name in names if name.strip()))

    def telling_words(self, passage_id: str, n: int) -> list[str]:
        """The ``n`` words that weigh most in a passage in the lexical lane. Raises KeyError for one that is not
        here."""
        [passage] = self._store.passages([passage_id])
        return self._lexicon.telling_words(passage.indexed_text, n)

    def _open(self) -> None:
        """The generation that the manifest names."""
        while True:
            content = self.engine.read_fact(MANIFEST) or b""
            try:
                manifest = parsed_manifest(content, self.location) if content else read_manifest(self.engine)
                if self._given is not None:
                    self._check_given(manifest)
                store = self.engine.open(manifest["generation"])
                asked = manifest.get("questions")
                questions = QuestionLane(self.engine.open(asked["generation"])) if asked else None
                lexicon = read_lexicon(self.engine, manifest["generation"])
                break
            except ArtifactError:
                if (self.engine.read_fact(MANIFEST) or b"") == content:  # else it was dropped while we opened it
                    raise
        if not lexicon.is_current:
            log.warning(
                "%s: words are cut otherwise now than when this index was built, so that words may miss passages; "
                "index again (nothing is encoded for it)",
                self.location,
            )
        self._content: bytes = content
        self.manifest: Mapping[str, Any] = manifest
        self._store, self._lexicon, self._asked = store, lexicon, questions

    def _check_given(self, manifest: Mapping[str, Any]) -> None:
        assert self._given is not None
        _check_fingerprint(self.location, manifest, self._given)
        if "multi_vector" in manifest["lanes"] and unified_in(self._given) is None:
            raise ConfigError(f"{self.location}: has sparse and multi-vectors; open it with the unified model itself")

    def _encoded(self, queries: Sequence[str]) -> Encoded:
        unified = unified_in(self.encoder) if len(self.outputs) > 1 else None
        return unified.encode_queries(queries, outputs=OUTPUTS) if unified else self.encoder.encode_queries(queries)

    def _lanes(
        self, query: str, encoded: Encoded, depth: int, rewritten: Rewritten, where: Filter
    ) -> tuple[dict[str, Hits], Mapping[str, str]]:
        """The hits of every lane, and which record of the questions each passage of that lane was found by."""
        lanes = self._own_lanes(query, encoded, depth, where) | self._further_lanes(rewritten, depth, where)
        by_question, asked = self._questions(encoded, depth, where)
        lanes |= {QUESTIONS: by_question} if by_question else {}
        if encoded.multi_vector is not None and "multi_vector" in self.manifest["lanes"]:
            best = reciprocal_rank_fusion(list(lanes.values()))[:depth]
            lanes["multi_vector"] = self._by_multi_vectors(encoded, best)
        return lanes, asked

    def _fused(self, lanes: Mapping[str, Hits]) -> Hits:
        """Lanes that dev queries never had weigh as the lane that they search by."""
        weights = (self.manifest.get("fusion") or {}).get("weights")
        if not weights:
            return reciprocal_rank_fusion(list(lanes.values()))
        own = [weights.get(lane, weights["bm25" if lane == "keywords" else "dense"]) for lane in lanes]
        return weighted_fusion(list(lanes.values()), own)

    def _own_lanes(self, query: str, encoded: Encoded, depth: int, where: Filter) -> dict[str, Hits]:
        lanes = {"dense": self._dense(encoded, depth, where)[0]}
        if encoded.sparse is not None and "sparse" in self.manifest["lanes"]:
            lanes["sparse"] = self._store.search_sparse("sparse", encoded.sparse, depth, where)[0]
        return lanes | {"bm25": self._words(query, depth, where)}

    def _further_lanes(self, rewritten: Rewritten, depth: int, where: Filter) -> dict[str, Hits]:
        """Keywords go to the lexical lane alone; a passage that might be the answer is encoded as a passage."""
        lanes = {}
        if rewritten.keywords:
            lanes["keywords"] = self._words(" ".join(rewritten.keywords), depth, where)
        if rewritten.variants:
            found = self._dense(self.encoder.encode_queries(rewritten.variants), depth, where)
            lanes |= {f"variant {n}": hits for n, hits in enumerate(found, start=1)}
        if rewritten.hypothetical:
            lanes["hyde"] = self._dense(self.encoder.encode_passages([rewritten.hypothetical]), depth, where)[0]
        return lanes

    def _dense(self, encoded: Encoded, depth: int, where: Filter) -> list[Hits]:
        return self._store.search_dense(self._vectors(encoded), depth, where)

    def _vectors(self, encoded: Encoded) -> NDArray[np.float32]:
        if encoded.dense is None:
            raise ValueError("the encoder gives no dense vectors")
        return unit_length(encoded.dense) if self.manifest["similarity"] == "cosine" else encoded.dense

    def _questions(self, encoded: Encoded, depth: int, where: Filter) -> tuple[Hits, Mapping[str, str]]:
        """Passages by their nearest question, and which record of it that was. A build that was stopped may have
        changed passages and not yet their questions: they are asked again whether they are there and meet ``where``."""
        if self._asked is None:
            return [], {}
        hits, records = self._asked.search(self._vectors(encoded), depth, where)
        there = {passage_id for passage_id, _ in hits if passage_id in self.passage_ids}
        if where:
            there = {found.passage_id for found in self._store.passages(list(there)) if matches(found, where)}
        return [hit for hit in hits if hit[0] in there], {key: records[key] for key in there}

    def _words(self, text: str, depth: int, where: Filter) -> Hits:
        return self._store.search_sparse("bm25", self._lexicon.queries([text]), depth, where)[0]

    def _by_multi_vectors(self, encoded: Encoded, best: Hits) -> Hits:
        from bessemer.search.max_sim import MaxSim, token_vectors  # torch, as the encoder

        query = token_vectors(encoded)
        if not query.offsets[-1]:  # no token says anything of any passage
            return []
        passage_ids = [passage_id for passage_id, _ in best]
        max_sim = MaxSim(self._store.token_vectors(passage_ids))
        [scores] = max_sim.of_candidates(query, [np.arange(len(passage_ids))])
        return sort_hits(zip(passage_ids, scores.tolist(), strict=True))

    def _explain(self, query: Encoded, passage_id: str) -> dict[str, Any]:
        unified = unified_in(self.encoder)
        if unified is None or len(self.outputs) == 1:
            return {"note": NO_TOKENS}
        return explain(query, self._store.vectors([passage_id]), unified)


def _refuse_unsearchable(query: str, top_k: int) -> None:
    if not query.strip():
        raise ConfigError("the query is empty; give some words")
    if top_k < 1:
        raise ConfigError(f"top_k must be at least 1, not {top_k}")


def _check_fingerprint(location: str, manifest: Mapping[str, Any], encoder: Encoder) -> None:
    if not may_search(encoder, manifest["fingerprint"]):
        given = encoder.fingerprint_of("passage")
        raise ArtifactError(
            f"{location}: built with the model {manifest['model']} (fingerprint {manifest['fingerprint'][:16]}), but "
            f"the model given has fingerprint {given[:16]}: vectors of two models cannot be compared. "
            f"Search with {manifest['model']}, or build the index again with `bessemer index --model ...`"
        )
