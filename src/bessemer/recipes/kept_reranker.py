"""A cross-encoder that scores no pair twice: mining anew while training asks it for what is new alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bessemer.score_cache import KeptScore, ScoreCache, score_key
from bessemer.search.rerank import CrossEncoderReranker

RERANKER_SCORES = "reranker-scores.sqlite"
"""In the workspace."""


class KeptReranker:
    """As the cross-encoder; ``file`` keeps its scores from call to call and from run to run."""

    def __init__(self, reranker: CrossEncoderReranker, file: Path) -> None:
        self._reranker, self._file = reranker, file
        self.fingerprint = reranker.fingerprint

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """(n,) scores. Raises as the cross-encoder does, and as `ScoreCache`."""
        keys = [score_key(self.fingerprint, *pair) for pair in pairs]
        with ScoreCache(self._file) as cache:
            known = {key: kept.value for key in set(keys) if (kept := cache.get(key))}
            new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
            for key, score in zip(new, self._reranker(list(new.values())).tolist(), strict=True):
                known[key] = score
                cache.put(key, KeptScore(score, is_cut=False))
        return np.array([known[key] for key in keys], dtype=np.float64)
