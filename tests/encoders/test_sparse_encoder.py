"""Sparse and multi-vector models of sentence-transformers: the same numbers as from their own classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder as TheirMultiVector
from sentence_transformers import SparseEncoder as TheirSparse
from sentence_transformers.base.modules import Router
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.foreign import load_foreign
from bessemer.encoders.kinds import kind_of
from bessemer.encoders.multi_vector import load_multi_vector
from bessemer.encoders.sparse import load_sparse
from bessemer.errors import ArtifactError, BessemerError, ConfigError
from bessemer.search.max_sim import MaxSim
from bessemer.search.sparse import SparseRetriever
from lane_models import write_cross_encoder, write_multi_vector, write_sparse, write_unified

TEXTS = ["how to parse arguments", "", "a list of files in a folder", "https://a.example/b.png", "word " * 90]
QUERIES = ["parse a list", "files", ""]


@pytest.fixture(scope="module")
def sparse_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sparse(tmp_path_factory.mktemp("sparse"))


@pytest.fixture(scope="module")
def multi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_multi_vector(tmp_path_factory.mktemp("multi"))


def test_splade_scores_are_its_own(sparse_folder: Path) -> None:
    encoder, theirs = load_sparse(str(sparse_folder), device="cpu"), TheirSparse(str(sparse_folder), device="cpu")
    rows = encoder.encode_passages(TEXTS).sparse
    assert rows is not None
    assert rows.dtype == np.float32
    assert rows.has_sorted_indices
    expected = theirs.similarity(theirs.encode_query(QUERIES), theirs.encode_document(TEXTS)).numpy()
    found = SparseRetriever(encoder, list("abcde"), rows).scores(encoder.encode_queries(QUERIES))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert encoder.n_truncated == {"query": 0, "passage": 1}
    none = encoder.encode_queries([]).sparse
    assert none is not None
    assert none.shape == (0, rows.shape[1])


def test_colbert_ranks_are_its_own(multi_folder: Path) -> None:
    """Its score is the sum over the query's tokens, ours the mean; vectors are kept in float16."""
    encoder, theirs = load_multi_vector(str(multi_folder), device="cpu"), TheirMultiVector(str(multi_folder))
    passages, queries = encoder.encode_passages(TEXTS).multi_vector, encoder.encode_queries(QUERIES).multi_vector
    assert passages is not None
    assert queries is not None
    assert passages.precision == "float16"
    expected = theirs.similarity(theirs.encode_query(QUERIES), theirs.encode_document(TEXTS)).cpu().numpy()
    found = MaxSim(passages).scores(queries)
    np.testing.assert_allclose(found * np.diff(queries.offsets)[:, None], expected, atol=2e-2)
    np.testing.assert_array_equal(np.argmax(found, axis=1), np.argmax(expected, axis=1))
    first = encoder.model.tokenizer(TEXTS[0])["input_ids"]
    assert passages.token_ids[: len(first)].tolist() == first
    assert encoder.n_truncated == {"query": 0, "passage": 1}
    none = encoder.encode_queries([]).multi_vector
    assert none is not None
    assert len(none) == 0


def test_query_expansion_is_the_models_own(multi_folder: Path, tmp_path: Path) -> None:
    model = TheirMultiVector(str(multi_folder), device="cpu")
    model[0].query_expansion = {"strategy": "fixed", "length": 12}
    model.save(str(tmp_path / "expanding"))
    found = load_multi_vector(str(tmp_path / "expanding"), device="cpu").encode_queries(QUERIES).multi_vector
    assert found is not None
    assert np.diff(found.offsets).tolist() == [12, 12, 12]
    folders = multi_folder, tmp_path / "expanding", tmp_path / "attending"
    model[0].query_expansion = {"strategy": "fixed", "length": 12, "attend": True}
    model.save(str(folders[2]))
    assert len({load_multi_vector(str(folder), device="cpu").fingerprint for folder in folders}) == 3


def test_fingerprints_tell_models_apart_and_paths_do_not(sparse_folder: Path, tmp_path: Path) -> None:
    model = TheirSparse(str(sparse_folder), device="cpu")
    model.save(str(tmp_path / "copy"))
    first, copy = (load_sparse(str(folder), device="cpu") for folder in (sparse_folder, tmp_path / "copy"))
    assert first.fingerprint_of("query") == copy.fingerprint_of("passage")
    with torch.no_grad():
        next(copy.model.parameters()).add_(0.1)
    assert first.fingerprint != copy.fingerprint


def test_lengths_that_are_asked_for(sparse_folder: Path) -> None:
    encoder = load_sparse(str(sparse_folder), device="cpu", max_length=5, query_max_length=4)
    encoder.encode_passages(TEXTS)
    encoder.encode_queries(QUERIES)
    assert encoder.n_truncated == {"query": 1, "passage": 4}  # 3 words have 3 + 2 tokens
    one, other = encoder.encode_passages(["a b c d e f", "a b c g h i"]).sparse  # cut to the same three words
    assert one.toarray() == pytest.approx(other.toarray(), abs=1e-5)


@pytest.mark.parametrize("kind", ["sparse", "multi"])
def test_lengths_that_cannot_be_had(kind: str, sparse_folder: Path, multi_folder: Path) -> None:
    """The models have 64 positions; a text has two special tokens."""
    load, folder = (load_sparse, sparse_folder) if kind == "sparse" else (load_multi_vector, multi_folder)
    assert load(str(folder), device="cpu", max_length=64).max_length == 64
    for lengths in ({"max_length": 65}, {"query_max_length": 65}):
        with pytest.raises(ConfigError, match=f"max length 65: {folder} takes at most 64 tokens; lower it"):
            load(str(folder), device="cpu", **lengths)
    with pytest.raises(ConfigError, match="max length 2: no room beside 2 special tokens"):
        load(str(folder), device="cpu", query_max_length=2)


@pytest.mark.parametrize("error", [TypeError, AttributeError])
def test_whatever_a_library_raises_is_told_in_a_line(error: type[Exception]) -> None:
    def broken(*_: object, **__: object) -> object:
        raise error("no such thing\nin detail")

    with pytest.raises(ConfigError, match="minilm: cannot be loaded: no such thing; give a folder or a hub name"):
        load_foreign(broken, "minilm", "cpu", None)


def test_damaged_weights_are_refused(sparse_folder: Path, multi_folder: Path) -> None:
    for encoder in (load_sparse(str(sparse_folder), device="cpu"), load_multi_vector(str(multi_folder), device="cpu")):
        with torch.no_grad():
            for parameter in encoder.model.parameters():
                parameter.fill_(float("nan"))
        with pytest.raises(ArtifactError, match="not finite"):
            encoder.encode_passages(["text"])


def test_kinds_by_their_own_files(sparse_folder: Path, multi_folder: Path, tmp_path: Path) -> None:
    cross_encoder, unified = write_cross_encoder(tmp_path), write_unified(tmp_path / "u")
    kinds = [kind_of(str(folder)) for folder in (sparse_folder, multi_folder, cross_encoder, unified)]
    assert kinds == ["sparse", "multi", "cross-encoder", "unified"]
    assert kind_of("minilm") == "dense"
    assert kind_of(str(tmp_path / "bare")) == "cross-encoder"  # by its architecture
    assert kind_of("nobody/nothing") is None
    (multi_folder.parent / "pylate").mkdir(exist_ok=True)
    (multi_folder.parent / "pylate" / "modules.json").write_text("[]")
    config = multi_folder.parent / "pylate" / "config_sentence_transformers.json"
    config.write_text(json.dumps({"model_type": "ColBERT"}))
    assert kind_of(str(config.parent)) == "multi"
    config.write_text("{bad")
    assert kind_of(str(config.parent)) == "dense"
    with pytest.raises(ConfigError, match="no such folder"):
        kind_of("./nowhere")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_sparse(str(config.parent))


@pytest.mark.parametrize(
    "expansion",
    [None, {"strategy": "fixed", "length": 12}, {"strategy": "min", "length": 6, "attend": True, "token": "the"}],
)
def test_training_sees_the_vectors_that_are_served(multi_folder: Path, expansion: Any, tmp_path: Path) -> None:
    """Texts of all lengths in one batch, cut, skipped and filled up as the model's own preprocessing does."""
    model = TheirMultiVector(str(multi_folder), device="cpu")
    model[0].query_expansion = expansion
    model.prompts = {"query": "a question: ", "document": ""}
    model[2 if isinstance(model[2], MultiVectorMask) else 3].skiplist_words = ["a", "."]
    model.save(str(tmp_path / "model"))
    encoder = load_multi_vector(str(tmp_path / "model"), device="cpu")
    encoder.model.eval()
    for side, texts in (("query", ["parse a list", "files", "one two three four five six " * 3]), ("passage", TEXTS)):
        found = encoder.encode_queries(texts) if side == "query" else encoder.encode_passages(texts)
        assert found.multi_vector is not None
        token_ids, n_cut = encoder.tokenize_counted(texts, side)
        assert n_cut == encoder.n_truncated[side]
        vectors, mask = encoder.represent(encoder.features(token_ids, side))
        assert mask.sum(dim=1).tolist() == np.diff(found.multi_vector.offsets).tolist()
        served = found.multi_vector.floats(0, len(texts))
        np.testing.assert_allclose(vectors[mask].detach().numpy(), served, atol=2e-3)  # which are kept in float16


def test_training_sees_the_weights_that_are_served(sparse_folder: Path) -> None:
    encoder = load_sparse(str(sparse_folder), device="cpu")
    assert encoder.dimension == 30_522  # before any text was pooled
    encoder.model.eval()
    token_ids, _ = encoder.tokenize_counted(TEXTS, "passage")
    rows = encoder.represent(encoder.features(token_ids, "passage")).detach().numpy()
    served = encoder.encode_passages(TEXTS).sparse
    assert served is not None
    np.testing.assert_allclose(rows, served.toarray(), atol=1e-5)
    assert encoder.active.taken() == {"passage": pytest.approx((rows > 0).sum(axis=1).mean(), rel=1e-3)}
    assert encoder.active.taken() == {}


def test_encoding_leaves_training_as_it_was(sparse_folder: Path) -> None:
    """A forward pass in mixed precision, put in by a trainer, is not what texts are encoded by."""
    encoder = load_sparse(str(sparse_folder), device="cpu")
    before = encoder.encode_queries(QUERIES).sparse

    def mixed(*_: object) -> None:
        raise AssertionError

    encoder.model.forward = mixed
    encoder.model.train()
    after = encoder.encode_queries(QUERIES).sparse
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before.toarray(), after.toarray())
    assert encoder.model.training
    assert encoder.model.forward is mixed


@pytest.mark.parametrize("load", [load_sparse, load_multi_vector])
def test_too_little_memory_halves_the_batches(
    load: Callable[..., Any],
    sparse_folder: Path,
    multi_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = load(str(sparse_folder if load is load_sparse else multi_folder), device="cpu")
    whole, theirs, fits = encoder.encode_passages(TEXTS), encoder.model.encode_document, 3
    encoder.batch_size = 8

    def tight(texts: list[str], batch_size: int, **how: Any) -> Any:
        if batch_size > fits:
            raise torch.OutOfMemoryError
        return theirs(texts, batch_size=batch_size, **how)

    monkeypatch.setattr(encoder.model, "encode_document", tight)
    small = encoder.encode_passages(TEXTS)
    for before, after in zip(_numbers(whole), _numbers(small), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-3)
    assert [record.getMessage().partition("memory: ")[2] for record in caplog.records] == [
        "encoding 4 texts at a time from here on",
        "encoding 2 texts at a time from here on",
    ]
    fits = 0
    with pytest.raises(BessemerError, match=r"out of memory even with one text at a time; give a smaller --max-length"):
        encoder.encode_passages(TEXTS)


def _numbers(found: Encoded) -> list[np.ndarray]:
    sparse = [] if found.sparse is None else [found.sparse.toarray()]
    return sparse + ([] if found.multi_vector is None else [found.multi_vector.floats(0, len(TEXTS))])


def test_models_that_do_not_train_are_named(tmp_path: Path, sparse_folder: Path) -> None:
    theirs = TheirSparse(str(sparse_folder), device="cpu")
    static = SparseStaticEmbedding(tokenizer=theirs.tokenizer)
    routed = TheirSparse(modules=[Router.for_query_document([static], list(theirs))], device="cpu")
    routed.save(str(tmp_path / "routed"))
    encoder = load_sparse(str(tmp_path / "routed"), device="cpu")
    with pytest.raises(ConfigError, match="an encoder for each side"):
        encoder.require_trainable()
    other = load_sparse(str(sparse_folder), device="cpu")
    del other.model[1]
    with pytest.raises(ConfigError, match="of sparse models SPLADE trains"):
        other.require_trainable()
