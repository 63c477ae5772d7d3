"""The nearest passages of each query: by vectors, by BM25 or by both, around the query or around its positives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bessemer.config import NegativesConfig
from bessemer.negatives.candidates import Pool, Ranking
from bessemer.search.exact import ExactSearch
from bessemer.search.fusion import reciprocal_rank_fusion

QUERIES_PER_BLOCK = 2048


def neighbours(pool: Pool, config: NegativesConfig) -> Iterator[Ranking]:
    """Per query the passages of ranks ``[range_min, range_max)``, nearest first, counted after all that must not be
    negatives is taken out; and their similarities to the query.

    ``candidates: hybrid`` joins the two rankings by reciprocal rank; ``anchor: positive`` takes the neighbours of every
    positive of the query, each passage at the best score that one of them gives it.
    """
    exact = ExactSearch(pool.passage_vectors)
    for start in range(0, len(pool.queries), QUERIES_PER_BLOCK):
        rows = range(start, min(start + QUERIES_PER_BLOCK, len(pool.queries)))
        depth = config.range_max + max(len(pool.excluded[i]) for i in rows)
        dense = _dense(pool, rows, config.anchor, depth, exact) if config.candidates != "bm25" else []
        lexical = _lexical(pool, rows, config.anchor, depth) if config.candidates != "dense" else []
        for row, i in enumerate(rows):
            lanes = [lane[row] for lane in (dense, lexical) if lane]
            ranked, scores = lanes[0] if len(lanes) == 1 else _fused(pool, lanes)
            chosen = np.flatnonzero(pool.is_allowed(i, ranked))[config.range_min : config.range_max]
            of_query = config.candidates == "dense" and config.anchor == "query"
            yield ranked[chosen], scores[chosen] if of_query else pool.scores(i, ranked[chosen])


def _dense(pool: Pool, rows: range, anchor: str, depth: int, exact: ExactSearch) -> list[Ranking]:
    if anchor == "query":
        vectors = pool.query_vectors[rows.start : rows.stop]
    else:
        vectors = pool.passage_vectors[np.concatenate([pool.positives[i] for i in rows])]
    scores, found = exact.top_k(vectors, depth)
    return _by_query(pool, rows, anchor, list(zip(found, scores, strict=True)))


def _lexical(pool: Pool, rows: range, anchor: str, depth: int) -> list[Ranking]:
    if anchor == "query":
        texts = [pool.queries[i].searched_text for i in rows]
    else:
        texts = [pool.passages[p].indexed_text for i in rows for p in pool.positives[i]]
    return _by_query(pool, rows, anchor, pool.corpus.lexical(texts, depth))


def _by_query(pool: Pool, rows: range, anchor: str, lists: Sequence[Ranking]) -> list[Ranking]:
    """One ranking per query; of a query with several anchors, each passage once at its best score."""
    if anchor == "query":
        return list(lists)
    counts = [len(pool.positives[i]) for i in rows]
    joined = []
    for end, n in zip(np.cumsum(counts), counts, strict=True):
        passages = np.concatenate([found for found, _ in lists[end - n : end]])
        scores = np.concatenate([values for _, values in lists[end - n : end]])
        order = np.argsort(-scores, kind="stable")
        first = np.sort(np.unique(passages[order], return_index=True)[1])
        joined.append((passages[order][first], scores[order][first]))
    return joined


def _fused(pool: Pool, lanes: Sequence[Ranking]) -> Ranking:
    lists = [[(pool.passages[p].passage_id, float(s)) for p, s in zip(*lane, strict=True)] for lane in lanes]
    return pool.corpus.ranking(reciprocal_rank_fusion(lists))
