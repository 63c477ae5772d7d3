"""Which queries are not independent of each other, for the resampling of METHODS' paired comparisons.

Two queries that share a positive passage or its document stand or fall together, so whole groups of them are drawn. In
a small shared corpus the chain "shares a document with one that shares a document with ..." can join nearly all queries
into one group, and drawing groups then says nothing. Such chains are weak dependence: the grouping falls back to
queries with the very same positives, or to single queries, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from bessemer.types import Qrels, Query

MIN_CLUSTERS = 20
MAX_SHARE = 0.2  # of the queries, in the largest cluster


@dataclass(frozen=True)
class Clusters:
    """``labels``: (Q,) the cluster of each query, from 0; ``note``: what to tell the reader, or empty."""

    labels: NDArray[np.int64]
    note: str = ""

    @property
    def n_clusters(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def usable(self) -> bool:
        return self.n_clusters >= MIN_CLUSTERS and np.bincount(self.labels).max() <= MAX_SHARE * len(self.labels)


def cluster_queries(queries: Sequence[Query], qrels: Qrels, document_ids: Mapping[str, str]) -> Clusters:
    """Group ``queries`` (each with at least one positive); ``document_ids`` maps passage_id -> doc_id."""
    positives = [frozenset(p for p, grade in qrels[query.query_id].items() if grade > 0) for query in queries]
    documents = [frozenset(document_ids.get(p, p) for p in some) for some in positives]
    by_document = Clusters(_components(documents))
    if by_document.usable:
        return by_document
    n_documents = len(frozenset().union(*documents))
    if n_documents < MIN_CLUSTERS:  # no chain: there simply are few documents, and drawing queries would hide it
        note = f"The answers stand in {n_documents} documents only, which the interval resamples: it is rough."
        return Clusters(by_document.labels, note)
    largest = int(np.bincount(by_document.labels).max())
    why = f"Shared documents chain {largest} of the {len(queries)} queries into one cluster"
    by_positives = Clusters(np.unique([_key(some) for some in positives], return_inverse=True)[1])
    if by_positives.usable:
        note = f"{why}: the interval resamples the {by_positives.n_clusters} groups of queries with the same positives."
        return Clusters(by_positives.labels, note)
    return Clusters(np.arange(len(queries)), f"{why}: the interval resamples single queries and may be too narrow.")


def _key(passage_ids: frozenset[str]) -> str:
    return "\x00".join(sorted(passage_ids))


def _components(documents: Sequence[frozenset[str]]) -> NDArray[np.int64]:
    """Connected components of the queries in the graph query - document."""
    distinct = dict.fromkeys(doc_id for some in documents for doc_id in some)
    numbers = {doc_id: node for node, doc_id in enumerate(distinct, start=len(documents))}
    edges = [(i, numbers[doc_id]) for i, some in enumerate(documents) for doc_id in some]
    rows, columns = np.asarray(edges, dtype=np.int64).T
    n_nodes = len(documents) + len(numbers)
    graph = sp.coo_array((np.ones(len(edges)), (rows, columns)), shape=(n_nodes, n_nodes))
    labels = connected_components(graph, directed=False)[1][: len(documents)]
    return np.unique(labels, return_inverse=True)[1]
