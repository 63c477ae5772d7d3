"""Which queries are not independent of each other, for the resampling of METHODS' paired comparisons.

Two queries that share a positive passage or its document stand or fall together, so whole groups of them are drawn. In
a small shared corpus the chain "shares a document with one that shares a document with ..." can join nearly all queries
into one group, and drawing groups then says nothing. Such chains are weak dependence: they fall apart into the queries
with the very same documents, never further, and the note says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bessemer.components import components
from bessemer.types import Qrels, Query

MIN_CLUSTERS = 20  # as many documents a chain has at least
MAX_SHARE = 0.2  # of the queries, in a cluster that may be a chain


@dataclass(frozen=True)
class Clusters:
    """``labels``: (Q,) the cluster of each query, from 0; ``note``: what to tell the reader, or empty."""

    labels: NDArray[np.int64]
    note: str = ""

    @property
    def n_clusters(self) -> int:
        return int(self.labels.max()) + 1


def cluster_queries(queries: Sequence[Query], qrels: Qrels, document_ids: Mapping[str, str]) -> Clusters:
    """Group ``queries`` (each with at least one positive); ``document_ids`` maps passage_id -> doc_id."""
    documents = [
        frozenset(document_ids.get(p, p) for p, grade in qrels[query.query_id].items() if grade > 0)
        for query in queries
    ]
    joined = components(documents)
    sizes = np.bincount(joined)
    large = np.flatnonzero(sizes > MAX_SHARE * len(queries)).tolist()
    chains = [label for label in large if _is_chain([documents[i] for i in np.flatnonzero(joined == label)])]
    keys = [
        (label, *sorted(some)) if label in chains else (label,)
        for label, some in zip(joined.tolist(), documents, strict=True)
    ]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    labels = np.asarray([numbers[key] for key in keys], dtype=np.int64)
    return Clusters(labels, _note(labels, [int(sizes[label]) for label in chains]))


def _is_chain(documents: Sequence[frozenset[str]]) -> bool:
    """Whether a cluster hangs together by many documents, none of which all its queries share: a topic has few."""
    return not frozenset.intersection(*documents) and len(frozenset().union(*documents)) >= MIN_CLUSTERS


def _note(labels: NDArray[np.int64], chains: Sequence[int]) -> str:
    """``chains``: the number of queries in each."""
    sizes = np.bincount(labels)
    notes = [
        f"Shared documents chain {n} of the {len(labels)} queries together: within the chain the interval resamples "
        f"groups of queries with the same documents ({len(sizes)} groups in all) and may be too narrow."
        for n in chains
    ]
    if len(sizes) < MIN_CLUSTERS:
        notes.append(f"Independent groups of queries: only {len(sizes)}; the interval resamples them and is rough.")
    elif sizes.max() > MAX_SHARE * len(labels):
        notes.append(
            f"{sizes.max()} of the {len(labels)} queries share documents and count as one of {len(sizes)} groups."
        )
    return " ".join(notes)
