"""Duplicates: passages that say the same, and documents that are versions of each other."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bessemer.components import components
from bessemer.config import ChunkingConfig
from bessemer.shingles import jaccard, shingles
from bessemer.text import normal_form
from bessemer.types import Document, Dropped, Filtered, Passage

STAGE = "dedup"
N_PERMUTATIONS = 128
SHARED_SHINGLE = 8
SHARED_PART = 0.5
MAX_PAIRED = 50


def deduplicate(passages: Sequence[Passage], config: ChunkingConfig) -> Filtered[Passage]:
    """Keep the first of each set of passages that are equal, or near-duplicates.

    Compared are the deepest heading and the text: "See the table." under two headings is two things. Near-duplicates
    are found by MinHash LSH (Broder 1997; 128 permutations, fixed seed) over shingles of 3 words or 4 Chinese
    characters, and confirmed by the true Jaccard similarity >= ``config.near_duplicates``. A dropped passage carries
    the similarity as its score and the id of the kept one as ``passage_id``.
    """
    kept: list[Passage] = []
    dropped: list[Dropped] = []
    first_with: dict[bytes, str] = {}
    unique: list[Passage] = []
    for passage in passages:
        digest = hashlib.sha256(normal_form(_compared(passage)).encode("utf-8")).digest()
        first = first_with.setdefault(digest, passage.passage_id)
        if first == passage.passage_id:
            unique.append(passage)
        else:
            dropped.append(Dropped(passage.passage_id, STAGE, "exact duplicate", passage.text, 1.0, first))
    near = _near_duplicates([_compared(passage) for passage in unique], config.near_duplicates)
    for index, passage in enumerate(unique):
        if index in near:
            first_index, similarity = near[index]
            first = unique[first_index].passage_id
            dropped.append(Dropped(passage.passage_id, STAGE, "near-duplicate", passage.text, similarity, first))
        else:
            kept.append(passage)
    return Filtered(tuple(kept), tuple(dropped), config.near_duplicates)


def _compared(passage: Passage) -> str:
    return f"{passage.headings[-1]}\n{passage.text}" if passage.headings else passage.text


def _near_duplicates(texts: Sequence[str], threshold: float) -> dict[int, tuple[int, float]]:
    """index -> (index of the kept text that it duplicates, similarity)."""
    from datasketch import MinHash, MinHashLSH

    # A lower threshold for the sketch: what it proposes is checked, what it misses is lost.
    lsh = MinHashLSH(threshold=max(0.1, threshold - 0.1), num_perm=N_PERMUTATIONS)
    sets = [shingles(text) for text in texts]
    blank = MinHash(num_perm=N_PERMUTATIONS, seed=1, hashfunc=int)
    found: dict[int, tuple[int, float]] = {}
    for index, members in enumerate(sets):
        sketch = blank.copy()
        sketch.update_batch((members & np.uint64(0xFFFFFFFF)).tolist())
        matches = ((jaccard(members, sets[other]), -other) for other in lsh.query(sketch))
        similarity, other = max(matches, default=(0.0, 0))
        if similarity >= threshold:
            found[index] = (-other, similarity)
        else:
            lsh.insert(index, sketch)
    return found


def cluster_documents(documents: Sequence[Document]) -> Mapping[str, str]:
    """doc_id -> cluster_id; documents that share half of the smaller one's text are one cluster.

    Shared text is counted in runs of 8 words (or Chinese characters), wherever passages begin. It takes versions of a
    document together, but not all documents with the same legal notice at their end: passages that are equal are
    dropped by ``deduplicate`` in any case, so that none stands in two splits. A run in more than 50 documents is
    compared with the first of them only. The cluster's id is the smallest doc_id in it: a new version of a known
    document that sorts before it, or that joins two clusters, gives them a new id.
    """
    sets = [shingles(document.text, SHARED_SHINGLE) for document in documents]
    pairs: list[list[tuple[int, int]]] = [[] for _ in documents]
    for pair, n_shared in _n_shared(sets).items():
        if n_shared >= SHARED_PART * min(len(sets[index]) for index in pair):
            for index in pair:
                pairs[index].append(pair)
    members: dict[int, list[str]] = defaultdict(list)
    for document, label in zip(documents, components(pairs).tolist(), strict=True):
        members[label].append(document.doc_id)
    return {doc_id: min(doc_ids) for doc_ids in members.values() for doc_id in doc_ids}


def _n_shared(sets: Sequence[NDArray[np.uint64]]) -> dict[tuple[int, int], int]:
    """(document, document) -> number of shingles in both."""
    if not sets:
        return {}
    values = np.concatenate(sets)
    owners = np.repeat(np.arange(len(sets)), [len(members) for members in sets])
    order = np.lexsort((owners, values))
    values, owners = values[order], owners[order]
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    sizes = np.diff(np.r_[starts, len(values)])
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        for pair in _pairs(owners[start : start + size].tolist()):
            counts[pair] += 1
    return counts


def _pairs(group: Sequence[int]) -> Iterable[tuple[int, int]]:
    if len(group) > MAX_PAIRED:
        return [(group[0], other) for other in group[1:]]
    return [(left, right) for position, left in enumerate(group) for right in group[position + 1 :]]
