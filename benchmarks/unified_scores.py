"""The section of unified.py on scores: single pairs against the diagonal of a matrix of all queries by all passages."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clocks import Took, took
from texts import docstring_texts

SIZES = (4, 2, 1)  # shares of all pairs: 1/4, 1/2, 1
WORDS_PER_QUERY = 12
TARGET_RATIO, TARGET_ERROR = 20, 1e-5


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """The scores that `compute_score` gives n pairs, all texts distinct: passages of about 150 tokens, their first 12
    words as queries. Encoding, the same in both ways, is left out of both.

    The way by matrices is FlagEmbedding's `compute_score`: a batch of pairs at a time (256, its default), every query
    of the batch with every passage in each representation, then the diagonal. Its dense rows (batch, vocabulary) and
    padded vectors (batch, length, m) are made before its clock starts; ours reads what is kept, float16 included. It
    is run on ``--matrix-batches`` batches and counted for all pairs, in which it is linear. One matrix of all pairs,
    without batches, would take ``gib_of_one_matrix`` and is not run.
    """
    from bessemer.encoders.encoder import OUTPUTS
    from bessemer.encoders.load import load_encoder
    from bessemer.encoders.pair_scores import score_pairs
    from bessemer.encoders.sparse_start import with_heads

    n, batch = arguments.pairs, arguments.matrix_batch
    texts = docstring_texts(n)
    n = len(texts)
    encoder = with_heads(load_encoder("minilm", device="cpu"), texts[:200], seed=0)
    passages = encoder.encode_passages(texts, OUTPUTS)
    queries = encoder.encode_queries([" ".join(text.split()[:WORDS_PER_QUERY]) for text in texts], OUTPUTS)

    def of_pairs(n_pairs: int) -> Any:
        rows = np.arange(n_pairs)
        return score_pairs(queries, passages, rows, rows, encoder.lane_weights)

    sizes = [n // share for share in SIZES]
    batches = [np.arange(start, min(start + batch, n)) for start in range(0, n, batch)][: arguments.matrix_batches]
    ours = of_pairs(n)  # warm-up
    pair_times: dict[int, list[Took]] = {size: [] for size in sizes}
    matrix_times, error = [], 0.0
    for _ in range(arguments.rounds):
        for size in sizes:
            pair_times[size].append(took(lambda size=size: of_pairs(size))[0])
        for rows in batches:
            left, right = padded(queries, rows), padded(passages, rows)
            time, found = took(lambda left=left, right=right: diagonals(left, right, encoder.lane_weights))
            matrix_times.append(time)
            error = max(error, largest_difference(found, ours, rows))
    n_matrix = statistics.fmean(len(rows) for rows in batches)
    result: dict[str, Any] = {
        "n_pairs": sizes,
        "matrix_batch": batch,
        "matrix_batches_run": len(batches),
        "counted_for": n,
        "largest_difference": error,
        "gib_of_one_matrix": n * n * tokens_of(queries) * tokens_of(passages) * 4 / 2**30,
        "target": {"seconds_ratio": TARGET_RATIO, "largest_difference": TARGET_ERROR},
    }
    for name in Took._fields:
        per_size = [statistics.median(getattr(one, name) for one in pair_times[size]) for size in sizes]
        of_matrices = statistics.median(getattr(one, name) for one in matrix_times) * n / n_matrix
        result |= {
            f"{name}_of_pairs": per_size,
            f"{name}_of_matrices": of_matrices,
            f"{name}_ratio": of_matrices / per_size[-1],
            f"{name}_per_pair_to_fewest": [
                (time / size) / (per_size[0] / sizes[0]) for size, time in zip(sizes, per_size, strict=True)
            ],
        }
    return result


def tokens_of(encoded: Any) -> int:
    return int(np.diff(encoded.multi_vector.offsets).max())


def padded(encoded: Any, rows: np.ndarray) -> dict[str, Tensor]:
    """Dense (n, d), sparse (n, V), vectors (n, L, m) of some texts, and their numbers of tokens (n,). A shorter text's
    last vector is repeated, which no maximum over its tokens sees; FlagEmbedding has zeros there, which some do."""
    vectors = [torch.from_numpy(encoded.multi_vector.floats(row, row + 1)) for row in rows]
    lengths = torch.tensor([len(of_text) for of_text in vectors])
    longest = int(lengths.max())
    full = torch.stack([torch.cat([v, v[-1:].expand(longest - len(v), -1)]) for v in vectors])
    return {
        "dense": torch.from_numpy(encoded.dense[rows]),
        "sparse": torch.from_numpy(encoded.sparse[rows].toarray()),
        "multi_vector": full,
        "lengths": lengths,
    }


def diagonals(left: Mapping[str, Tensor], right: Mapping[str, Tensor], lane_weights: Any) -> dict[str, Tensor]:
    """(n,) of each representation and of the ensemble, from (n, n) of each."""
    best = torch.einsum("qin,pjn->qipj", left["multi_vector"], right["multi_vector"]).amax(dim=-1)  # (q, i, p)
    is_token = torch.arange(best.shape[1]) < left["lengths"][:, None]
    matrices = {
        "dense": left["dense"] @ right["dense"].T,
        "sparse": left["sparse"] @ right["sparse"].T,
        "multi_vector": (best * is_token[:, :, None]).sum(dim=1) / left["lengths"][:, None],
    }
    found = {lane: matrix.diagonal() for lane, matrix in matrices.items()}
    found["ensemble"] = sum(getattr(lane_weights, lane) * scores for lane, scores in found.items())
    return found


def largest_difference(found: Mapping[str, Tensor], ours: Any, rows: np.ndarray) -> float:
    """Sparse scores are far above 1: theirs is relative."""
    worst = 0.0
    for lane in (field.name for field in fields(ours)):
        own = getattr(ours, lane)[rows]
        difference = np.abs(found[lane].numpy() - own) / np.maximum(1.0, np.abs(own))
        worst = max(worst, float(difference.max()))
    return worst
