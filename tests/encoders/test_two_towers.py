"""Router models: two towers behind one encoder, as sentence-transformers encodes with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

from bessemer.encoders.cache import CachedEncoder, missing
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.encoders.two_towers import TwoTowerEncoder, join_towers
from bessemer.errors import ConfigError
from bessemer.search.index import open_index
from bessemer.search.index_build import build_index
from bessemer.types import Passage

TEXTS = ["how is steel made", "Air is blown through the molten iron. " * 40, "炼钢"]


def nudged(name: str) -> DenseEncoder:
    """minilm with other weights: a stand-in for a tuned query tower."""
    encoder = load_encoder(name, device="cpu", bf16=False)
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.mul_(1.02)
    return encoder


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers") / "model"
    query = nudged("minilm").with_prompts({})
    query.max_length = query.query_max_length = 64
    query.query_prompt = "query: "
    join_towers(query, load_encoder("minilm", device="cpu", bf16=False).model).save(folder)
    return folder


def test_each_side_goes_through_its_tower_as_in_sentence_transformers(joined: Path) -> None:
    encoder = load_encoder(str(joined), device="cpu", bf16=False)
    assert isinstance(encoder, TwoTowerEncoder)
    plain = SentenceTransformer(str(joined), device="cpu")
    queries, passages = encoder.encode_queries(TEXTS).dense, encoder.encode_passages(TEXTS).dense
    assert queries is not None
    assert passages is not None
    assert np.abs(queries - plain.encode_query(TEXTS)).max() < 1e-5
    assert np.abs(passages - plain.encode_document(TEXTS)).max() < 1e-5
    assert np.abs(queries - passages).max() > 1e-3
    base = load_encoder("minilm", device="cpu", bf16=False, max_length=64)
    assert np.abs(passages - base.encode(TEXTS, "passage")).max() < 1e-6
    assert (encoder.max_length, encoder.query_max_length) == (64, 64)
    assert encoder.n_truncated == {"query": 1, "passage": 1}


def test_fingerprints_tell_towers_apart(joined: Path) -> None:
    encoder = load_encoder(str(joined), device="cpu", bf16=False)
    query, passage = encoder.fingerprint_of("query"), encoder.fingerprint_of("passage")
    assert len({encoder.fingerprint, query, passage}) == 3


def test_an_index_is_of_the_passage_tower_alone(joined: Path, tmp_path: Path) -> None:
    passages = [Passage(f"p{i}", "d", text) for i, text in enumerate(TEXTS)]
    base = load_encoder("minilm", device="cpu", bf16=False, max_length=64)
    base.query_prompt = "query: "  # part of the settings that a fingerprint is made of
    build_index(tmp_path / "index", passages, base, "minilm")
    towers = load_encoder(str(joined), device="cpu", bf16=False)
    stats = build_index(tmp_path / "index", passages, towers, str(joined))
    assert (stats.n_encoded, stats.n_reused) == (0, 3)
    assert open_index(tmp_path / "index", towers).search("how is steel made", 1)[0]["passage_id"] in {"p0", "p1"}


def test_two_towers_cannot_be_trained_further(joined: Path) -> None:
    encoder = load_encoder(str(joined), device="cpu", bf16=False)
    with pytest.raises(ConfigError, match="tune a model with one encoder"):
        encoder.embed(encoder.features([[1, 2]], "passage"))


def test_queries_are_cached_by_the_precision_of_their_own_tower(
    tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    query = load_encoder(str(tiny_folder("q")), device="cpu", bf16=False)
    towers = join_towers(query, query.independent_copy().model)
    CachedEncoder(towers, tmp_path).encode_queries(TEXTS)
    towers.bf16 = True  # of the passage tower
    assert missing(towers, tmp_path, TEXTS, "query") == []
    towers._query_tower.bf16 = True
    towers._query_tower.settle_precision = lambda *_: None  # type: ignore[method-assign]
    assert missing(towers, tmp_path, TEXTS, "query") == TEXTS


def test_a_router_without_our_routes_is_refused(tmp_path: Path) -> None:
    modules = list(load_encoder("minilm", device="cpu", bf16=False).model)
    SentenceTransformer(modules=[Router({"text": modules}, default_route="text")], device="cpu").save(str(tmp_path))
    with pytest.raises(ConfigError, match="no `document` route; its routes are text"):
        load_encoder(str(tmp_path), device="cpu")


def test_each_tower_keeps_its_length(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    query = load_encoder(str(tiny_folder("q")), device="cpu", max_length=32, query_max_length=8)
    join_towers(query, query.independent_copy().model).save(tmp_path)
    loaded = load_encoder(str(tmp_path), device="cpu")
    assert (loaded.max_length, loaded.query_max_length) == (32, 8)
