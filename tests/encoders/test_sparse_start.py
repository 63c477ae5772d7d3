"""New heads: the ridge fit against scikit-learn, targets by hand, and what a fresh sparse lane finds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from tiny_models import words

from bessemer.corpus.docstrings import docstring_pairs
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import OUTPUTS
from bessemer.encoders.load import load_encoder
from bessemer.encoders.prompts import Prompts
from bessemer.encoders.ridge import PENALTY, Moments, fit_ridge
from bessemer.encoders.sparse_start import bm25_roots, with_heads
from bessemer.encoders.two_towers import join_towers
from bessemer.errors import ConfigError, DataError

TEXTS = [words(*range(i, i + 3 + i % 7), i, 199) for i in range(60)]


def test_ridge_is_scikit_learns_whatever_the_batches() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)) * [1, 2, 0.5, 1, 3] + [0, 5, 0, -2, 0]
    y = x @ [1, -1, 0, 2, 0.3] + 4 + rng.normal(size=300)
    fit = fit_ridge(Moments.of(x[:100], y[:100]) + Moments.of(x[100:], y[100:]))
    penalty = PENALTY * x.var(axis=0).mean() * len(x)
    reference = Ridge(alpha=penalty).fit(x, y)
    np.testing.assert_allclose(fit.weights, reference.coef_, rtol=1e-9)
    assert fit.bias == pytest.approx(reference.intercept_)
    assert fit.r_squared == pytest.approx(reference.score(x, y))


def test_ridge_with_one_row_or_equal_targets_is_finite() -> None:
    fit = fit_ridge(Moments.of(np.ones((1, 3)), np.array([2.0])))
    assert (fit.weights.tolist(), fit.bias, fit.r_squared) == ([0, 0, 0], 2.0, 0.0)


def test_targets_multiply_to_bm25_by_hand() -> None:
    """Two texts of tokens [5 5 6] and [7], mean length 2: b = .75 makes the length factors 1.375 and 0.625."""
    idf = np.arange(10) / 10
    roots = bm25_roots(np.array([0, 0, 0, 1]), np.array([5, 5, 6, 7]), idf, 2.0)
    five, six = 0.5 * 2 / (2 + 1.5 * 1.375), 0.6 * 1 / (1 + 1.5 * 1.375)
    seven = 0.7 / (1 + 1.5 * 0.625)
    assert roots == pytest.approx([math.sqrt(five), math.sqrt(five), math.sqrt(six), math.sqrt(seven)])


def test_new_heads_on_a_copy_with_all_that_the_encoder_has(tiny: DenseEncoder) -> None:
    encoder = tiny.with_prompts({"qa": Prompts("query : ", "passage : ")}).for_task("qa", max_length=20)
    before = encoder.fingerprint
    unified = with_heads(encoder, TEXTS, seed=0)
    assert encoder.fingerprint == before
    assert not hasattr(encoder.model[0], "heads")
    assert (unified.query_prompt, unified.passage_prompt, unified.max_length) == ("query : ", "passage : ", 20)
    assert unified.task_prompts == encoder.task_prompts
    encoded = unified.encode_passages(TEXTS, OUTPUTS)
    np.testing.assert_array_equal(encoded.dense, encoder.encode(TEXTS, "passage"))
    assert encoded.sparse is not None
    assert encoded.sparse.multiply(encoded.sparse).sum() / len(TEXTS) == pytest.approx(1, abs=1e-4)
    assert unified.n_truncated == {"query": 0, "passage": 0}

    hidden = unified.represent(unified.features(unified.tokenize(TEXTS[:2], "passage"), "passage"))
    assert hidden.vectors.shape[-1] == unified.multi_vector_dimension == 32
    start = unified.sparse_start
    assert start is not None
    assert (start.n_fitted, start.n_texts) == (60, 60)
    assert start.n_words == sum(encoder.count_tokens([encoder.passage_prompt + text for text in TEXTS]))
    assert 0 < start.r_squared <= 1
    assert with_heads(unified, TEXTS, seed=0) is unified


def test_token_vectors_begin_as_the_models_own_states(tiny: DenseEncoder) -> None:
    unified = with_heads(tiny, TEXTS, seed=0)
    unified.model.eval()
    features = unified.features(unified.tokenize(TEXTS[:3], "passage"), "passage")
    states = unified.model[0](dict(features))["token_embeddings"]
    found = unified.represent(features)
    expected = (states / states.norm(dim=-1, keepdim=True))[found.mask]
    np.testing.assert_allclose(found.vectors[found.mask].detach(), expected.detach(), atol=1e-5)


def test_a_seed_draws_the_texts(tiny: DenseEncoder) -> None:
    assert with_heads(tiny, TEXTS, seed=1).fingerprint == with_heads(tiny, TEXTS, seed=1).fingerprint


def test_what_cannot_have_heads(
    tiny: DenseEncoder, tiny_static: DenseEncoder, tiny_folder: Callable[..., object]
) -> None:
    with pytest.raises(DataError, match="no word in any text"):
        with_heads(tiny, [], seed=0)
    with pytest.raises(DataError, match="no word in any text"):
        with_heads(tiny, ["", "[UNK]"], seed=0)
    with pytest.raises(ConfigError, match="static"):
        with_heads(tiny_static, TEXTS, seed=0)
    towers = join_towers(tiny, tiny.independent_copy().model)
    with pytest.raises(ConfigError, match="one for passages"):
        with_heads(towers, TEXTS, seed=0)
    decoder = load_encoder(str(tiny_folder("Qwen3-Embedding-0.6B", kind="qwen3")), device="cpu", bf16=False)
    with pytest.raises(ConfigError, match="decoder-only"):
        with_heads(decoder, TEXTS, seed=0)


def test_a_fresh_sparse_lane_finds_real_passages(minilm: DenseEncoder) -> None:
    """Docstrings of jinja2: the summary asks for the rest."""
    pairs = docstring_pairs(("jinja2",)).kept[:80]
    passages, queries = [pair.passage.text for pair in pairs], [pair.query.text for pair in pairs]
    unified = with_heads(minilm.for_task("", max_length=64), passages, seed=0)
    found, asked = unified.encode_passages(passages, ("sparse",)), unified.encode_queries(queries, ("sparse",))
    assert found.sparse is not None
    assert asked.sparse is not None
    scores = (asked.sparse @ found.sparse.T).toarray()
    ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)
    assert len(pairs) > 40
    assert np.mean(ranks < 5) > 0.5  # at random: below 0.13
    assert unified.sparse_start is not None
    assert unified.sparse_start.r_squared > 0.5
