"""Sparse and multi-vector models of sentence-transformers: the same numbers as from their own classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder as TheirMultiVector
from sentence_transformers import SparseEncoder as TheirSparse

from bessemer.encoders.kinds import kind_of
from bessemer.encoders.multi_vector import load_multi_vector
from bessemer.encoders.sparse import load_sparse
from bessemer.errors import ArtifactError, ConfigError
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
    assert one.toarray() == pytest.approx(other.toarray(), rel=1e-5)


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
