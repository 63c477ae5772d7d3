"""The unified encoder: its outputs worked out from hidden states one text at a time, and what it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_unified_parts import new_heads
from tiny_models import words
from transformers import AutoModel

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import OUTPUTS, Encoded
from bessemer.encoders.load import load_encoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ArtifactError, ConfigError

TEXTS = [words(1, 2, 3), words(4), words(*range(50)), words(8, 8, 9, 8), "", "w3 [UNK] w5", "[SEP] [CLS]"]


@pytest.fixture
def unified(bert_folder: Path) -> UnifiedEncoder:
    model = load_encoder(str(bert_folder), device="cpu", bf16=False).model
    encoder = UnifiedEncoder(model, "tiny", new_heads(), bf16=False)
    return encoder.with_settings(multi_vector_precision="float32")


def by_hand(folder: Path, encoder: UnifiedEncoder, text: str) -> tuple[dict[int, float], np.ndarray]:
    """Weights by token id and vectors of one text, through the bare network."""
    ids = encoder.tokenize([text], "passage")[0]
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0].numpy()
    state = {name: tensor.numpy() for name, tensor in encoder.heads.state_dict().items()}
    weights: dict[int, float] = {}
    for i, states in zip(ids, hidden, strict=True):
        weight = float(states @ state["sparse.weight"][0] + state["sparse.bias"][0])
        if weight > 0 and i > 3:  # [PAD], [UNK], [CLS], [SEP] are 0 to 3
            weights[i] = max(weight, weights.get(i, 0.0))
    vectors = hidden[1:] @ state["multi_vector.weight"].T + state["multi_vector.bias"]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return weights, vectors if any(i > 3 for i in ids) else vectors[:0]


def parts(encoded: Encoded, text: int) -> tuple[dict[int, float], np.ndarray]:
    assert encoded.sparse is not None
    assert encoded.multi_vector is not None
    row = encoded.sparse[[text]]
    return dict(zip(row.indices.tolist(), row.data.tolist(), strict=True)), encoded.multi_vector.floats(text, text + 1)


def test_all_outputs_against_the_formulas(unified: UnifiedEncoder, bert_folder: Path) -> None:
    encoded = unified.encode_passages(TEXTS, OUTPUTS)
    for i, text in enumerate(TEXTS):
        weights, vectors = parts(encoded, i)
        expected_weights, expected_vectors = by_hand(bert_folder, unified, text)
        assert weights == pytest.approx(expected_weights, abs=1e-5)
        np.testing.assert_allclose(vectors, expected_vectors, atol=1e-5)
    assert encoded.multi_vector is not None
    assert encoded.multi_vector.token_ids[:4].tolist() == [8, 9, 10, 3]  # w1 w2 w3 [SEP]: [CLS] has no vector
    np.testing.assert_array_equal(encoded.dense, unified.encode(TEXTS, "passage"))


def test_any_subset_of_outputs_is_the_same(unified: UnifiedEncoder) -> None:
    whole = unified.encode_queries(TEXTS, OUTPUTS)
    assert whole.sparse is not None
    assert whole.multi_vector is not None
    dense = unified.encode_queries(TEXTS)
    assert (dense.sparse, dense.multi_vector) == (None, None)
    np.testing.assert_array_equal(dense.dense, whole.dense)
    sparse = unified.encode_queries(TEXTS, ("sparse",))
    assert (sparse.dense, sparse.multi_vector) == (None, None)
    assert (sparse.sparse != whole.sparse).nnz == 0
    multi = unified.encode_queries(TEXTS, ("multi_vector",)).multi_vector
    assert multi is not None
    np.testing.assert_array_equal(multi.rows, whole.multi_vector.rows)
    with pytest.raises(ValueError, match="choose among dense, sparse, multi_vector"):
        unified.encode_queries(TEXTS, ("lexical",))  # type: ignore[arg-type]


def test_a_text_does_not_depend_on_its_neighbours(unified: UnifiedEncoder) -> None:
    together = unified.encode_passages(TEXTS, OUTPUTS)
    for i, text in enumerate(TEXTS):
        alone = unified.encode_passages([text], OUTPUTS)
        assert alone.dense is not None
        assert together.dense is not None
        np.testing.assert_allclose(alone.dense[0], together.dense[i], atol=1e-5)
        (weights, vectors), (others, other_vectors) = parts(alone, 0), parts(together, i)
        assert weights == pytest.approx(others, abs=1e-5)
        np.testing.assert_allclose(vectors, other_vectors, atol=1e-5)


def test_texts_without_a_word_and_no_text(unified: UnifiedEncoder) -> None:
    encoded = unified.encode_passages(["", "[SEP] [CLS]", "[UNK]"], OUTPUTS)
    assert encoded.dense is not None
    assert encoded.sparse is not None
    assert encoded.multi_vector is not None
    np.testing.assert_allclose(np.linalg.norm(encoded.dense, axis=1), 1, atol=1e-6)
    assert encoded.sparse.nnz == 0
    assert encoded.multi_vector.offsets.tolist() == [0, 0, 0, 0]
    scores = unified.compute_score([("", words(1)), (words(1), "")])
    assert scores.sparse is not None
    assert scores.multi_vector is not None
    assert scores.sparse.tolist() == scores.multi_vector.tolist() == [0, 0]

    nothing = unified.encode_passages([], OUTPUTS)
    assert nothing.dense is not None
    assert nothing.sparse is not None
    assert nothing.multi_vector is not None
    assert nothing.dense.shape == (0, 32)
    assert nothing.sparse.shape == (0, unified.vocabulary_size)
    assert (len(nothing.multi_vector), nothing.multi_vector.dimension) == (0, 16)


def test_only_the_strongest_weights_stay_and_the_rest_is_counted(unified: UnifiedEncoder) -> None:
    whole = unified.encode_passages(TEXTS, ("sparse",)).sparse
    few = unified.with_settings(top_weights=2)
    cut = few.encode_passages(TEXTS, ("sparse",)).sparse
    assert whole is not None
    assert cut is not None
    assert (unified.settings.top_weights, whole.nnz - cut.nnz) == (256, few.n_pruned["passage"])
    for row in range(len(TEXTS)):
        np.testing.assert_array_equal(np.sort(cut[[row]].data), np.sort(whole[[row]].data)[-2:])
    few.encode_queries(TEXTS, ("sparse",))
    assert few.n_pruned["query"] == few.n_pruned["passage"] > 0


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_token_vectors_are_kept_as_asked(unified: UnifiedEncoder, precision: str) -> None:
    whole = unified.encode_passages(TEXTS, ("multi_vector",)).multi_vector
    kept = unified.with_settings(multi_vector_precision=precision).encode_passages(TEXTS, ("multi_vector",))
    assert whole is not None
    assert kept.multi_vector is not None
    expected = whole.stored_as(precision)  # type: ignore[arg-type]
    np.testing.assert_array_equal(kept.multi_vector.rows, expected.rows)
    np.testing.assert_array_equal(kept.multi_vector.token_ids, expected.token_ids)
    if expected.scales is not None:
        np.testing.assert_array_equal(kept.multi_vector.scales, expected.scales)


def test_represent_is_what_encoding_gives_with_gradients(unified: UnifiedEncoder) -> None:
    texts = TEXTS[:4]
    unified.model.eval()
    found = unified.represent(unified.features(unified.tokenize(texts, "passage"), "passage"))
    encoded = unified.encode_passages(texts, OUTPUTS)
    np.testing.assert_allclose(found.dense.detach().numpy(), encoded.dense, atol=1e-5)
    for i in range(len(texts)):
        weights, vectors = parts(encoded, i)
        np.testing.assert_allclose(found.vectors[i][found.mask[i]].detach().numpy(), vectors, atol=1e-5)
        ids, values = found.token_ids[i].tolist(), found.weights[i].tolist()
        largest = {t: max(v for u, v in zip(ids, values, strict=True) if u == t) for t in ids}
        assert weights == pytest.approx({t: v for t, v in largest.items() if v > 0}, abs=1e-5)
    assert not found.vectors[~found.mask].any()
    (found.dense.sum() + found.weights.sum() + found.vectors.sum()).backward()
    assert all(parameter.grad is not None for parameter in unified.heads.parameters())
    assert unified.model[0].model.embeddings.word_embeddings.weight.grad is not None


def test_represent_gives_float32_under_autocast(unified: UnifiedEncoder) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = unified.represent(unified.features(unified.tokenize(TEXTS, "query"), "query"))
    assert {found.dense.dtype, found.weights.dtype, found.vectors.dtype} == {torch.float32}
    assert found.mask.dtype == torch.bool


def test_all_that_handles_weights_takes_the_heads_along(unified: UnifiedEncoder) -> None:
    before, fingerprint, key = unified.copy_weights(), unified.fingerprint, unified.content_key
    other = unified.independent_copy()
    with torch.no_grad():
        unified.heads.sparse.weight += 1
    assert unified.fingerprint != fingerprint
    assert other.fingerprint == fingerprint
    unified.load_weights(before)
    assert (unified.fingerprint, unified.content_key) == (fingerprint, key)
    fewer = unified.with_settings(top_weights=3)
    assert fewer.fingerprint == fingerprint
    assert fewer.content_key != key


def test_numbers_that_are_not_finite_are_refused(unified: UnifiedEncoder) -> None:
    unified.heads.sparse.weight.data.fill_(float("nan"))
    with pytest.raises(ArtifactError, match="3 of 4 vectors are not finite"):  # the empty text has no weight
        unified.encode_passages(["", *TEXTS[:3]], ("sparse",))
    unified.heads.multi_vector.bias.data[0] = float("inf")
    with pytest.raises(ArtifactError, match="not finite"):
        unified.encode_passages(TEXTS, ("multi_vector",))


def test_bf16_is_close_and_gives_way_where_a_head_needs_more(bert_folder: Path) -> None:
    model = load_encoder(str(bert_folder), device="cpu", bf16=False).model
    exact = UnifiedEncoder(model, "tiny", new_heads(), bf16=False)
    torch.nn.init.constant_(exact.heads.sparse.bias, 2.0)  # few weights near zero
    low = UnifiedEncoder(model, "tiny", exact.heads, bf16=True)
    texts = [text for text in TEXTS if text]
    close, expected = low.encode_passages(texts, OUTPUTS), exact.encode_passages(texts, OUTPUTS)
    assert low.bf16
    assert not np.array_equal(close.dense, expected.dense)
    assert close.sparse is not None
    assert expected.sparse is not None
    for i in range(len(texts)):
        np.testing.assert_allclose(parts(close, i)[1], parts(expected, i)[1], atol=0.05)
    np.testing.assert_allclose(close.sparse.toarray(), expected.sparse.toarray(), atol=0.05)

    strongest = exact.encode_passages(texts, ("sparse",)).sparse
    assert strongest is not None
    with torch.no_grad():
        exact.heads.sparse.bias -= float(strongest.data.max()) - 1e-4  # what is left is less than bf16 can tell
    low.encode_passages(texts)
    assert not low.bf16


def test_models_that_cannot_carry_heads(tiny_folder: object, tiny_static: DenseEncoder) -> None:
    decoder = load_encoder(str(tiny_folder("Qwen3-Embedding-0.6B", kind="qwen3")), device="cpu", bf16=False)  # type: ignore[operator]
    with pytest.raises(ConfigError, match="decoder-only"):
        UnifiedEncoder(decoder.model, "qwen", new_heads())
    with pytest.raises(ConfigError, match="static"):
        UnifiedEncoder(tiny_static.model, "static", new_heads())


def test_pairs_are_scored_by_their_rows_and_every_text_is_encoded_once(unified: UnifiedEncoder) -> None:
    long = words(*range(100))  # cut: counted once per encoding
    pairs = [(words(1, 2), long), (words(3), words(3, 4)), (words(1, 2), words(3, 4)), (words(3), long)]
    scores = unified.compute_score(pairs)
    assert unified.n_truncated == {"query": 0, "passage": 1}
    for i, (query, passage) in enumerate(pairs):
        alone = unified.compute_score([(query, passage)])
        for lane in ("dense", "sparse", "multi_vector", "ensemble"):
            assert getattr(scores, lane)[i] == pytest.approx(getattr(alone, lane)[0], abs=1e-5)
    only = unified.compute_score(pairs, ("dense", "multi_vector"))
    assert only.sparse is None
    np.testing.assert_allclose(only.ensemble, scores.dense + scores.multi_vector, atol=1e-6)
    assert unified.compute_score([]).ensemble.shape == (0,)


def test_explanation_in_the_words_of_the_text(unified: UnifiedEncoder) -> None:
    torch.nn.init.constant_(unified.heads.sparse.bias, 5.0)
    found = unified.explain(words(3, 4), "w4 [UNK] w4 w9")
    assert [token.token for token in found.shared] == ["w4"]
    assert found.shared[0].contribution == pytest.approx(found.sparse)
    assert [match.token for match in found.matches] == ["w3", "w4", "[SEP]"]
    assert {match.matched for match in found.matches} <= {"w4", "[UNK]", "w9", "[SEP]"}
    assert np.mean([match.similarity for match in found.matches]) == pytest.approx(found.multi_vector)
    nothing = unified.explain("", words(1))
    assert (nothing.shared, nothing.matches, nothing.sparse) == ((), (), 0)


def test_token_strings_of_a_real_tokenizer(minilm: DenseEncoder) -> None:
    encoder = UnifiedEncoder(minilm.independent_copy().model, "minilm", new_heads(384), bf16=False)
    strings = encoder.token_strings(encoder.tokenize(["Bessemer steel"], "query")[0])
    assert (strings[0], strings[-2:]) == ("[CLS]", ["steel", "[SEP]"])
    assert "".join(piece.removeprefix("##") for piece in strings[1:-2]) == "bessemer"
