"""Heads for a plain dense model: where the training of a unified model begins."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bessemer.encoders.dense import SLAB, DenseEncoder, Features, TokenIds
from bessemer.encoders.head_base import hidden_size, refuse_unfit, special_ids, vocabulary_size
from bessemer.encoders.ridge import LinearFit, Moments, fit_ridge
from bessemer.encoders.two_towers import TwoTowerEncoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.encoders.unified_heads import SparseStart, UnifiedHeads
from bessemer.errors import ConfigError, DataError, Problem

logger = logging.getLogger(__name__)

N_FITTED = 2_000
"""Texts at most whose words the sparse head is fitted to."""
N_SCALED = 256
"""Texts at most whose scores with themselves set the scale."""
K1, B = 1.5, 0.75


def with_heads(encoder: DenseEncoder, texts: Sequence[str], seed: int) -> UnifiedEncoder:
    """A copy of ``encoder``, with weights of its own, that has heads to train; a unified one is returned as it is.

    The multi-vector head is the identity: token vectors begin as the model's own last hidden states. The sparse head
    begins near BM25: by ridge regression, on the last hidden states of all words of up to 2,000 of ``texts`` (drawn
    with ``seed``), a token t in a text p is to weigh sqrt(idf(t) * tf_part(t, p)), so that the product of two weights
    is like a term of BM25 (Lucene's form, k1 = 1.5, b = 0.75, over the model's own token ids in all of ``texts``).
    It is then scaled so that a text's mean sparse score with itself is 1, as its cosine is; no ranking depends on
    that. ``sparse_start`` of the result tells how well it fits.

    Raises ConfigError for models that cannot carry heads, DataError where ``texts`` hold no word.
    """
    if isinstance(encoder, UnifiedEncoder):
        return encoder
    if isinstance(encoder, TwoTowerEncoder):
        raise ConfigError(f"{encoder.name}: has a tower for queries and one for passages; give heads to a plain model")
    first = encoder.model[0]
    refuse_unfit(first, encoder.name)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(texts))[:N_FITTED])
    sample = [texts[i] for i in drawn]
    encoder.settle_precision(sample, "passage")
    heads = UnifiedHeads(hidden_size(first), hidden_size(first), special_ids(first)).to(encoder.device)
    moments = _moments(encoder, heads, texts, encoder.tokenize(sample, "passage"))
    if moments is None:
        raise DataError(
            [Problem("texts", None, "text", "no word in any text to begin the sparse head with", "add texts")]
        )
    fit = fit_ridge(moments)
    _put(heads, fit)
    unified = _unified(encoder, heads)
    _scale(unified, sample[:N_SCALED])
    unified.sparse_start = SparseStart(fit.r_squared, len(sample), moments.n, len(texts))
    logger.info("%s: %s", encoder.name, unified.sparse_start)
    return unified


def _moments(encoder: DenseEncoder, heads: UnifiedHeads, texts: Sequence[str], token_ids: TokenIds) -> Moments | None:
    """Of the last hidden states of all words of ``token_ids`` and what they are to weigh; None without a word."""
    idf, mean_length = _statistics(encoder, texts)

    def of_batch(features: Features, modules: Iterable[nn.Module]) -> Moments:
        first, *_ = modules
        hidden = first(dict(features))["token_embeddings"].float()
        is_word = heads.is_word(features["input_ids"], features["attention_mask"])
        rows, columns = np.nonzero(is_word.cpu().numpy())
        ids = features["input_ids"].cpu().numpy()[rows, columns]
        return Moments.of(hidden[is_word].cpu().numpy(), bm25_roots(rows, ids, idf, mean_length))

    moments: Moments | None = None
    for _, batch in encoder._batched(of_batch, token_ids, "passage", encoder.bf16):
        moments = batch if moments is None else moments + batch
    return moments if moments is not None and moments.n else None


def _statistics(encoder: DenseEncoder, texts: Sequence[str]) -> tuple[NDArray[np.float64], float]:
    """Lucene's idf of every token id in ``texts``, and the mean number of words."""
    first = encoder.model[0]
    n_with = np.zeros(vocabulary_size(first), dtype=np.int64)
    n_words, special = 0, np.array(special_ids(first))
    for start in range(0, len(texts), SLAB):
        for ids in encoder.tokenize(texts[start : start + SLAB], "passage"):
            distinct, counts = np.unique(ids, return_counts=True)
            n_with[distinct.astype(np.int64)] += 1
            n_words += int(counts[~np.isin(distinct, special)].sum())
    return np.log1p((len(texts) - n_with + 0.5) / (n_with + 0.5)), n_words / max(len(texts), 1)


def bm25_roots(
    rows: NDArray[np.int64], token_ids: NDArray[np.int64], idf: NDArray[np.float64], mean_length: float
) -> NDArray[np.float64]:
    """Square roots of the BM25 weights of words: word i is token ``token_ids[i]`` (t,) of text ``rows[i]``."""
    lengths = np.bincount(rows)
    _, position, counts = np.unique(rows * len(idf) + token_ids, return_inverse=True, return_counts=True)
    tf = counts[position]
    roots: NDArray[np.float64] = np.sqrt(idf[token_ids] * tf / (tf + K1 * (1 - B + B * lengths[rows] / mean_length)))
    return roots


def _put(heads: UnifiedHeads, fit: LinearFit) -> None:
    with torch.no_grad():
        heads.sparse.weight[0] = torch.from_numpy(fit.weights)
        heads.sparse.bias.fill_(fit.bias)
        nn.init.eye_(heads.multi_vector.weight)
        nn.init.zeros_(heads.multi_vector.bias)


def _unified(encoder: DenseEncoder, heads: UnifiedHeads) -> UnifiedEncoder:
    """Heads on a copy of ``encoder`` that has its prompts, lengths and precision."""
    unified = UnifiedEncoder(
        encoder.independent_copy().model,
        encoder.name,
        heads,
        bf16=encoder.bf16,
        max_length=encoder.max_length,
        query_max_length=encoder.query_max_length,
    )
    unified.query_prompt, unified.passage_prompt = encoder.query_prompt, encoder.passage_prompt
    return unified.with_prompts(encoder.task_prompts)


def _scale(unified: UnifiedEncoder, texts: Sequence[str]) -> None:
    """Scale the sparse head: relu(c H w + c b) = c relu(H w + b), so the scores grow by c squared."""
    counts = dict(unified.n_truncated)
    rows = unified.encode_passages(texts, ("sparse",)).sparse
    assert rows is not None
    mean_score = float(rows.multiply(rows).sum()) / len(texts)
    if mean_score > 0:
        with torch.no_grad():
            for parameter in unified.heads.sparse.parameters():
                parameter.div_(mean_score**0.5)
    unified.n_truncated.update(counts)
