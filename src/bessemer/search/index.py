"""The hybrid index: exact lanes, fused by rank, stamped with the model's fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bessemer.encoders.encoder import OUTPUTS, Encoded, Encoder, Output
from bessemer.errors import ArtifactError, ConfigError
from bessemer.search.bm25 import BM25
from bessemer.search.encoded_texts import texts_of, unified_in
from bessemer.search.explain import NO_TOKENS, explain
from bessemer.search.fusion import reciprocal_rank_fusion
from bessemer.search.index_files import Stored, generation_folder, read_generation, read_manifest
from bessemer.search.index_lanes import DENSE_LANES
from bessemer.search.retriever import LANE_DEPTH, DenseRetriever
from bessemer.search.rewrite import Rewritten
from bessemer.types import Hits

if TYPE_CHECKING:
    from bessemer.search.unified import UnifiedRetriever


def open_index(folder: str | Path, encoder: Encoder | None = None, task: str | None = None) -> Index:
    """Open an index for searching.

    Without ``encoder``, the model that the index names is loaded at the first search. Raises ArtifactError when the
    index is not finished, damaged, made by another model than ``encoder`` or for another task than ``task``.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if task is not None and task != manifest.get("task", ""):
        raise ArtifactError(
            f"{folder}: built for the task {manifest.get('task') or '(none)'}, not for {task}, whose passages have "
            f"other prompts; build one with `bessemer index --task {task}`"
        )
    if encoder is not None:
        _check_fingerprint(folder, manifest, encoder)
    stored = read_generation(folder, manifest)
    lexical = BM25.load(generation_folder(folder, manifest))
    if lexical.passage_ids != [passage.passage_id for passage in stored.passages]:
        raise ArtifactError(f"{folder}: the index is damaged (passages and BM25 do not fit); build it again")
    if "multi_vector" in manifest.get("lanes", DENSE_LANES) and encoder is not None and unified_in(encoder) is None:
        raise ConfigError(f"{folder}: has sparse and multi-vectors; open it with the unified model itself")
    return Index(folder, manifest, stored, lexical, encoder)


class Index:
    """An open index. ``passages`` by id, ``manifest`` as written."""

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], stored: Stored, lexical: BM25, encoder: Encoder | None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.passages = {passage.passage_id: passage for passage in stored.passages}
        self._stored = stored.encoded
        self._lexical = lexical
        self._encoder = encoder

    @cached_property
    def encoder(self) -> Encoder:
        """The model of the index. Raises ArtifactError when the one found is another."""
        if self._encoder is not None:
            return self._encoder
        from bessemer.encoders.load import load_encoder  # torch: only where a query must be encoded

        name = self.manifest["model"]
        beside = self.folder / name
        lengths = {key: self.manifest["encoding"][key] for key in ("max_length", "query_max_length")}
        encoder = load_encoder(str(beside.resolve()) if beside.is_dir() else name, **lengths)
        encoder = encoder.for_task(self.manifest.get("task", ""))
        _check_fingerprint(self.folder, self.manifest, encoder)
        return encoder

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What of a query this index is searched by."""
        return OUTPUTS if self._unified else ("dense",)

    @cached_property
    def _dense(self) -> DenseRetriever:
        assert self._stored.dense is not None
        return DenseRetriever(self.encoder, list(self.passages), self._stored.dense)

    @cached_property
    def _unified(self) -> UnifiedRetriever | None:
        """All representations, where the index holds them."""
        if self._stored.sparse is None or self._stored.multi_vector is None:
            return None
        from bessemer.search.unified import UnifiedRetriever  # torch, as the encoder

        encoder = unified_in(self.encoder)
        assert encoder is not None
        return UnifiedRetriever(encoder, list(self.passages), self._stored)

    def search(
        self, query: str, top_k: int = 10, rewritten: Rewritten | None = None, *, with_tokens: bool = False
    ) -> list[dict[str, Any]]:
        """The best passages for ``query`` by reciprocal rank fusion of the lanes: dense, BM25, and of a unified model
        sparse; what a language model made of the query is searched in lanes of its own beside them. Of a unified
        model the ``LANE_DEPTH`` best of that are ranked by their multi-vectors, and this ranking is fused as one more
        lane, `multi_vector`.

        Each is ``{"passage_id", "doc_id", "score", "text", "lanes"}``; ``lanes`` says at which rank and with which
        score of its own each lane found the passage, up to rank 100. With ``with_tokens`` each has ``explain``: see
        `bessemer.search.explain`. Raises ConfigError for an empty query and for ``top_k`` below 1.
        """
        _refuse_unsearchable(query, top_k)
        encoded = self._unified.encode([query]) if self._unified else self.encoder.encode_queries([query])
        return self.search_encoded(query, encoded, top_k, rewritten, with_tokens=with_tokens)

    def search_encoded(
        self,
        query: str,
        encoded: Encoded,
        top_k: int = 10,
        rewritten: Rewritten | None = None,
        *,
        with_tokens: bool = False,
    ) -> list[dict[str, Any]]:
        """As ``search``, for a query encoded elsewhere, with the ``outputs``."""
        _refuse_unsearchable(query, top_k)
        depth = max(top_k, LANE_DEPTH)
        lanes = {
            "dense": self._dense.search_encoded(encoded, depth)[0],
            **({"sparse": self._unified.sparse.search_encoded(encoded, depth)[0]} if self._unified else {}),
            "bm25": self._lexical.search([query], depth)[0],
            **self._further_lanes(rewritten or Rewritten(), depth),
        }
        if self._unified:
            best = reciprocal_rank_fusion(list(lanes.values()))[:depth]
            lanes["multi_vector"] = self._unified.multi.rerank(encoded, [best])[0]
        found: dict[str, dict[str, dict[str, float]]] = {}
        for lane, hits in lanes.items():
            for rank, (passage_id, score) in enumerate(hits, start=1):
                found.setdefault(passage_id, {})[lane] = {"rank": rank, "score": score}
        return [
            {
                "passage_id": passage_id,
                "doc_id": self.passages[passage_id].doc_id,
                "score": score,
                "text": self.passages[passage_id].indexed_text,
                "lanes": found[passage_id],
                **({"explain": self._explain(encoded, passage_id)} if with_tokens else {}),
            }
            for passage_id, score in reciprocal_rank_fusion(list(lanes.values()))[:top_k]
        ]

    def telling_words(self, passage_id: str, n: int) -> list[str]:
        """The ``n`` words that weigh most in a passage in the lexical lane."""
        return self._lexical.telling_words(passage_id, n)

    def _explain(self, query: Encoded, passage_id: str) -> dict[str, Any]:
        if self._unified is None:
            return {"note": NO_TOKENS}
        row = np.array([self._unified.multi.row_of[passage_id]], dtype=np.int64)
        return explain(query, texts_of(self._stored, row), self._unified.encoder)

    def _further_lanes(self, rewritten: Rewritten, depth: int) -> dict[str, Hits]:
        """Keywords go to the lexical lane alone; a passage that might be the answer is encoded as a passage."""
        lanes = {}
        if rewritten.keywords:
            lanes["keywords"] = self._lexical.search([" ".join(rewritten.keywords)], depth)[0]
        if rewritten.variants:
            found = self._dense.search(rewritten.variants, depth)
            lanes |= {f"variant {n}": hits for n, hits in enumerate(found, start=1)}
        if rewritten.hypothetical:
            lanes["hyde"] = self._dense.search_like([rewritten.hypothetical], depth)[0]
        return lanes


def _refuse_unsearchable(query: str, top_k: int) -> None:
    if not query.strip():
        raise ConfigError("the query is empty; give some words")
    if top_k < 1:
        raise ConfigError(f"top_k must be at least 1, not {top_k}")


def _check_fingerprint(folder: Path, manifest: Mapping[str, Any], encoder: Encoder) -> None:
    given = encoder.fingerprint_of("passage")
    if given != manifest["fingerprint"]:
        raise ArtifactError(
            f"{folder}: built with the model {manifest['model']} (fingerprint {manifest['fingerprint'][:16]}), but the "
            f"model given has fingerprint {given[:16]}: vectors of two models cannot be compared. "
            f"Search with {manifest['model']}, or build the index again with `bessemer index --model ...`"
        )
