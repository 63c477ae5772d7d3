"""Vectors of passages in their documents, against plain forward passes of the same model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.modules import Pooling

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.late_chunking import LateChunkedEncoder, pieces
from bessemer.encoders.load import load_encoder
from bessemer.errors import ConfigError, DataError
from bessemer.types import Document, Passage

ENGLISH = "Berlin is the capital of Germany. Its more than 3.8 million people live there. The city is also a state."
CHINESE = "柏林是德国的首都。它有三百八十万居民。这座城市也是一个州。"


@pytest.fixture(scope="module")
def minilm() -> DenseEncoder:
    encoder = load_encoder("minilm", device="cpu", bf16=False)
    encoder.model.eval()  # for the forward passes of these tests
    return encoder


def sentences(text: str, doc_id: str = "d") -> list[Passage]:
    ends = [place + 1 for place, mark in enumerate(text) if mark in ".。" and text[place + 1 : place + 2] in ("", " ")]
    ends = ends if "。" not in text else [place + 1 for place, mark in enumerate(text) if mark == "。"]
    found = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        start += text[start] == " "
        found.append(Passage(f"{doc_id}{start}", doc_id, text[start:end], start=start, end=end))
    return found


def token_vectors(encoder: DenseEncoder, text: str) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
    """All of one text, special tokens included, and the characters they stand for; by transformers alone."""
    tokens = encoder.model.tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    offsets = [tuple(pair) for pair in tokens.pop("offset_mapping")[0].tolist()]
    with torch.inference_mode():
        return encoder.model[0].model(**tokens).last_hidden_state[0].numpy(), offsets


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_one_window_is_the_mean_of_the_tokens_of_the_span(minilm: DenseEncoder, text: str) -> None:
    passages = sentences(text)
    assert len(passages) == 3
    found = LateChunkedEncoder(minilm, [Document("d", text)]).encode_in_context(passages).dense
    assert found is not None
    vectors, offsets = token_vectors(minilm, text)
    for place, passage in enumerate(passages):
        inside = [i for i, (start, end) in enumerate(offsets) if passage.start <= start < end <= passage.end]
        inside = {0: [0, *inside], 2: [*inside, len(offsets) - 1]}.get(place, inside)  # the marks at the ends
        np.testing.assert_allclose(found[place], unit(vectors[inside].mean(axis=0)), atol=1e-5)
    plain = minilm.encode_passages([passage.text for passage in passages]).dense
    assert plain is not None
    assert (np.sum(plain * found, axis=1) < 0.99).all()  # the context is in them


def test_the_whole_document_has_its_plain_vector(minilm: DenseEncoder) -> None:
    texts = {"a": ENGLISH, "b": CHINESE, "c": "  short  "}
    passages = [Passage(key, key, text.strip(), start=text.index(text.strip()[0])) for key, text in texts.items()]
    passages = [replace(passage, end=passage.start + len(passage.text)) for passage in passages]
    found = LateChunkedEncoder(minilm, [Document(*item) for item in texts.items()]).encode_in_context(passages).dense
    plain = minilm.encode_passages([passage.text for passage in passages]).dense
    np.testing.assert_allclose(found, plain, atol=1e-5)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_a_prompt_counts_as_it_does_in_plain_pooling(include_prompt: bool) -> None:
    encoder = load_encoder("minilm", device="cpu", bf16=False)
    encoder.passage_prompt = "passage: "
    (pooling,) = (module for module in encoder.model if isinstance(module, Pooling))
    pooling.include_prompt = include_prompt
    passage = Passage("a", "a", ENGLISH, start=0, end=len(ENGLISH))
    found = LateChunkedEncoder(encoder, [Document("a", ENGLISH)]).encode_in_context([passage]).dense
    np.testing.assert_allclose(found, encoder.encode_passages([ENGLISH]).dense, atol=1e-5)


def test_several_windows(minilm: DenseEncoder) -> None:
    text = " ".join(f"Number {i} is {'odd' if i % 2 else 'even'}." for i in range(40))
    encoder = minilm.for_task("", 22)  # 20 tokens of the document in each window
    passages = sentences(text)
    late = LateChunkedEncoder(encoder, [Document("d", text)])
    found = late.encode_in_context(passages).dense
    assert found is not None
    _, offsets = token_vectors(minilm, text)
    ids = minilm.tokenizer.encode([text], None)[0][0][1:-1]
    places = offsets[1:-1]
    for row in (0, 1, 17, 38, 39):  # read by hand in the window that has most on both sides
        passage = passages[row]
        inside = [i for i, (start, end) in enumerate(places) if passage.start <= start < end <= passage.end]
        first, last = inside[0], inside[-1] + 1
        starts = [*range(0, len(ids) - 20, 10), len(ids) - 20]
        room = {
            s: min(10**6 if s == 0 else first - s, 10**6 if s + 20 == len(ids) else s + 20 - last)
            for s in starts
            if s <= first and last <= s + 20
        }
        start = max(room, key=lambda s: room[s])
        with torch.inference_mode():
            window = torch.tensor([[101, *ids[start : start + 20], 102]])
            vectors = minilm.model[0].model(window, torch.ones_like(window)).last_hidden_state[0].numpy()
        rows = list(range(first - start + 1, last - start + 1))
        rows = [0, *rows] if first == 0 else [*rows, 21] if last == len(ids) else rows
        np.testing.assert_allclose(found[row], unit(vectors[rows].mean(axis=0)), atol=1e-5)
    assert late.n_over_windows == 0


def test_a_passage_longer_than_a_window_is_averaged_over_several_and_counted(minilm: DenseEncoder) -> None:
    text = " ".join(f"word {i}" for i in range(30))
    late = LateChunkedEncoder(minilm.for_task("", 22), [Document("d", text)])
    found = late.encode_in_context([Passage("p", "d", text, end=len(text))]).dense
    assert found is not None
    assert late.n_over_windows == 1
    assert np.linalg.norm(found[0]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("n", "length"), [(1, 5), (5, 5), (6, 5), (23, 5), (40, 7), (9, 1)])
def test_every_token_of_every_span_is_read_once_in_a_window(n: int, length: int) -> None:
    for start in range(n):
        for end in range(start + 1, n + 1):
            read = list(pieces(0, (start, end), n, length))
            assert [token for piece in read for token in range(*piece.tokens)] == list(range(start, end))
            for piece in read:
                assert 0 <= piece.window[0] <= piece.tokens[0] < piece.tokens[1] <= piece.window[1] <= n
                assert piece.window[1] - piece.window[0] == min(length, n)


def test_bf16_and_batches_agree(minilm: DenseEncoder) -> None:
    documents = [Document(f"d{i}", " ".join([f"The tool {i}."] * (i + 1)) + " It is heavy.") for i in range(12)]
    passages = [passage for document in documents for passage in sentences(document.text, document.doc_id)]
    together = LateChunkedEncoder(minilm, documents).encode_in_context(passages).dense
    assert together is not None
    late = LateChunkedEncoder(minilm, documents)
    alone = np.concatenate([np.asarray(late.encode_in_context([passage]).dense) for passage in passages[::7]])
    np.testing.assert_allclose(together[::7], alone, atol=1e-5)
    half = LateChunkedEncoder(load_encoder("minilm", device="cpu", bf16=True), documents)
    assert float(np.sum(np.asarray(half.encode_in_context(passages).dense) * together, axis=1).min()) > 0.995


def test_what_cannot_be_done_is_said(minilm: DenseEncoder, tiny_static_model: Path) -> None:
    late = LateChunkedEncoder(minilm, [Document("d", ENGLISH + " \u200b\n\n")])
    with pytest.raises(ConfigError, match="no span of a document that was read"):
        late.context_of(Passage("p", "d", "another text", end=12))
    with pytest.raises(DataError, match="no token of the model"):
        late.encode_in_context([Passage("p", "d", "\n\n", start=len(ENGLISH) + 2, end=len(ENGLISH) + 4)])
    with pytest.raises(ConfigError, match="mean pooling"):
        LateChunkedEncoder(load_encoder(str(tiny_static_model), device="cpu"), [])
    other = minilm.independent_copy()
    other.model[1].pooling_mode = "cls"
    with pytest.raises(ConfigError, match=r"pools otherwise \(cls\)"):
        LateChunkedEncoder(other, [])
