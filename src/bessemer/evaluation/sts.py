"""Sentence pairs: graded similarity (STS) and yes/no labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import pearsonr, spearmanr

from bessemer.encoders.encoder import Encoder
from bessemer.encoders.similarity import ScoredPair, pair_scores
from bessemer.errors import DataError, Problem


def evaluate_sts(encoder: Encoder, pairs: Sequence[ScoredPair]) -> dict[str, float]:
    """``{"spearman", "pearson", "n_pairs"}`` of the encoder's similarity against the given scores.

    Both are 0 for an encoder that scores all pairs alike. Raises DataError when the given scores are all equal.
    """
    gold = np.asarray([score for _, _, score in pairs], dtype=np.float64)
    if len(np.unique(gold)) < 2:
        raise DataError([Problem("pairs", None, "score", "all scores are equal", "give pairs of different similarity")])
    scores = pair_scores(encoder, pairs)
    if len(np.unique(scores)) < 2:
        return {"spearman": 0.0, "pearson": 0.0, "n_pairs": len(pairs)}
    return {
        "spearman": float(spearmanr(scores, gold).statistic),
        "pearson": float(pearsonr(scores, gold).statistic),
        "n_pairs": len(pairs),
    }


def evaluate_labelled_pairs(encoder: Encoder, pairs: Sequence[ScoredPair]) -> dict[str, float]:
    """``{"AP", "F1", "threshold", "n_pairs"}``: average precision, best F1 and the similarity from which it holds.

    Labels above 0 are positive. Equal similarities share one threshold. Raises DataError without both labels.
    """
    labels = np.asarray([label > 0 for _, _, label in pairs], dtype=bool)
    if not labels.any() or labels.all():
        raise DataError([Problem("pairs", None, "label", "only one kind of label", "give pairs of both labels")])
    scores = pair_scores(encoder, pairs)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # the last place of each run of equal scores
    true_positives = np.cumsum(labels[order])[last]
    n_taken = np.flatnonzero(last) + 1
    precision, recall = true_positives / n_taken, true_positives / labels.sum()
    f1 = 2 * true_positives / (n_taken + labels.sum())
    best = int(np.argmax(f1))
    return {
        "AP": float(np.sum(np.diff(recall, prepend=0) * precision)),
        "F1": float(f1[best]),
        "threshold": float(scores[order][last][best]),
        "n_pairs": len(pairs),
    }
