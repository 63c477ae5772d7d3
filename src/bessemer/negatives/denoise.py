"""Taking suspected false negatives out of a proposal: by margins, by likeness to a positive, by a reranker's veto."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bessemer.config import NegativesConfig
from bessemer.negatives.candidates import Pool, Positions, Vectors
from bessemer.shingles import jaccard
from bessemer.types import HardNegatives

RELATIVE_MARGIN = 0.95
LOOKS_ALIKE = 0.9
"""Cosine to a positive from which the words of a candidate are compared with the positive's."""
NEAR_DUPLICATE = 0.8
"""Jaccard similarity of word trigrams from which two passages say the same."""

Mask = NDArray[np.bool_]
Reranker = Callable[[Sequence[tuple[str, str]]], Sequence[float] | NDArray[np.float64]]
"""(query, passage) texts to scores, higher is more relevant: a cross-encoder, say."""


def relative_margin_of(strategy: str, config: NegativesConfig) -> float | None:
    """The margin asked for; by default 0.95, but none for simans, whose mode at the positive it would cut off."""
    if config.relative_margin is None:
        return None if strategy == "simans" else RELATIVE_MARGIN
    return config.relative_margin or None


def too_close(
    scores: Vectors, positive_scores: Vectors, relative: float | None, absolute: float | None
) -> tuple[Mask, str]:
    """Which candidates score too near the query's lowest positive to be trusted as negatives, and by which rule.

    ``scores`` (n,), ``positive_scores`` (m,), m >= 1. With a lowest positive <= 0 a relative margin has no meaning:
    the absolute one serves, and where none is set, a candidate above the positive is dropped.
    """
    lowest = float(positive_scores.min())
    if relative is not None and lowest > 0:
        limit, rule = relative * lowest, "relative margin"
    elif absolute is not None:
        limit, rule = lowest - absolute, "absolute margin"
    elif relative is not None:
        limit, rule = lowest, "above a positive with score <= 0"
    else:
        return np.zeros(len(scores), dtype=np.bool_), "no margin"
    if relative is not None and absolute is not None and lowest > 0:
        limit, rule = min(limit, lowest - absolute), "relative or absolute margin"
    return scores > limit, rule


def near_duplicates(pool: Pool, query: int, candidates: Positions) -> Mask:
    """(n,) which candidates say the same as a positive of the query: vectors alike, and most word trigrams shared.

    Vectors alone would drop what merely speaks of the same thing, which is what a hard negative does.
    """
    positives = pool.positives[query]
    lengths = pool.lengths[candidates][:, None] * pool.lengths[positives]
    products = pool.passage_vectors[candidates] @ pool.passage_vectors[positives].T
    found = np.zeros(len(candidates), dtype=np.bool_)
    for i, j in zip(*np.nonzero(products > LOOKS_ALIKE * lengths), strict=True):
        found[i] = found[i] or _same_words(pool.corpus.trigrams(candidates[i]), pool.corpus.trigrams(positives[j]))
    return found


def _same_words(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> bool:
    """Whether two sets have NEAR_DUPLICATE in common; where their sizes rule it out, without comparing them."""
    fewer, more = sorted((len(left), len(right)))
    return fewer / more >= NEAR_DUPLICATE and jaccard(left, right) >= NEAR_DUPLICATE


def vetoed(pool: Pool, query: int, candidates: Positions, reranker: Reranker) -> Mask:
    """(n,) which candidates the reranker scores at least as high as the query's lowest positive."""
    text, positives = pool.queries[query].searched_text, pool.positives[query]
    pairs = [(text, pool.passages[p].indexed_text) for p in (*positives, *candidates)]
    scores = np.asarray(reranker(pairs), dtype=np.float64)
    return np.asarray(scores[len(positives) :] >= scores[: len(positives)].min(), dtype=np.bool_)


def suspected_share(negatives: Sequence[HardNegatives]) -> float:
    """The share of negatives that score above RELATIVE_MARGIN times their query's lowest positive, whatever rule was
    in force when they were mined; NaN without any."""
    suspects = [
        too_close(np.array(row.scores), np.array(list(row.positive_scores.values())), RELATIVE_MARGIN, None)[0]
        for row in negatives
        if row.passage_ids
    ]
    return float(np.concatenate(suspects).mean()) if suspects else float("nan")
