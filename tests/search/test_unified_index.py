"""The index of a unified model: four lanes, stored, found again, and explained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.encoders.encoder import OUTPUTS, Output
from bessemer.encoders.pair_scores import score_pairs
from bessemer.encoders.token_vectors import Precision
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ArtifactError, ConfigError
from bessemer.search.index import open_index
from bessemer.search.index_build import IndexStats, build_index
from bessemer.types import Passage
from lane_models import unified_tiny

PASSAGES = [
    Passage("p1", "d1", "Raises an exception when the connection is lost."),
    Passage("p2", "d1", "A list of files in a folder, sorted by name."),
    Passage("p3", "d2", "How to parse arguments of a command line."),
    Passage("p4", "d3", "Parse the configuration file; the folder must exist."),
]


class Counting:
    """A unified encoder that counts the passages it encodes, all else its own."""

    def __init__(self, encoder: UnifiedEncoder) -> None:
        self._inner = encoder
        self.n_encoded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode_passages(self, texts: Sequence[str], outputs: Sequence[Output] = ("dense",)) -> Any:
        self.n_encoded += len(texts)
        return self._inner.encode_passages(texts, outputs)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> UnifiedEncoder:
    return unified_tiny(tmp_path_factory.mktemp("tiny"))


def test_every_lane_with_its_own_score_and_rank(encoder: UnifiedEncoder, tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, encoder, "m")
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["lanes"] == ["dense", "sparse", "bm25", "multi_vector"]
    assert manifest["precision"] == {"dense": "float32", "multi_vector": "float16"}
    hits = open_index(tmp_path, encoder).search("parse arguments")
    query = encoder.encode_queries(["parse arguments"], OUTPUTS)
    texts = encoder.encode_passages([p.indexed_text for p in PASSAGES], OUTPUTS)
    scores = score_pairs(query, texts, np.zeros(4, dtype=np.int64), np.arange(4), encoder.lane_weights)
    for lane, expected in (("dense", scores.dense), ("sparse", scores.sparse), ("multi_vector", scores.multi_vector)):
        assert expected is not None
        found = {hit["passage_id"]: hit["lanes"][lane] for hit in hits if lane in hit["lanes"]}
        by_hand = {p.passage_id: score for p, score in zip(PASSAGES, expected.tolist(), strict=True)}
        if lane == "sparse":  # what shares no token is no hit
            by_hand = {name: score for name, score in by_hand.items() if score > 0}
        assert {name: one["score"] for name, one in found.items()} == pytest.approx(by_hand, abs=2e-3)
        ranked = sorted(found, key=lambda name: found[name]["rank"])
        assert ranked == sorted(found, key=lambda name: -found[name]["score"])
    for hit in hits:  # reciprocal rank fusion of all of them
        assert hit["score"] == pytest.approx(sum(1 / (60 + lane["rank"]) for lane in hit["lanes"].values()))
    assert set(hits[0]) == {"passage_id", "doc_id", "score", "text", "lanes"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_building_again_encodes_only_what_changed(
    encoder: UnifiedEncoder, precision: Precision, tmp_path: Path
) -> None:
    counting: Any = Counting(encoder.with_settings(multi_vector_precision=precision))
    build_index(tmp_path / "index", PASSAGES, counting, "m")
    changed = [PASSAGES[3], PASSAGES[0], Passage("p5", "d5", "One more passage."), PASSAGES[1]]
    counting.n_encoded = 0
    assert build_index(tmp_path / "index", changed, counting, "m") == IndexStats(4, 1, 3, 1, 3)
    assert counting.n_encoded == 1
    build_index(tmp_path / "fresh", changed, counting, "m")
    again, fresh = (open_index(tmp_path / name, counting).search("folder files") for name in ("index", "fresh"))
    assert [hit["passage_id"] for hit in again] == [hit["passage_id"] for hit in fresh]
    for one, other in zip(again, fresh, strict=True):
        assert one["lanes"]["multi_vector"]["score"] == pytest.approx(other["lanes"]["multi_vector"]["score"], abs=1e-5)
    kept_otherwise: Any = Counting(encoder.with_settings(multi_vector_precision="float16"))
    assert build_index(tmp_path / "index", changed, kept_otherwise, "m").n_encoded == 4


def test_explain_names_the_tokens(encoder: UnifiedEncoder, tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, encoder, "m")
    hits = open_index(tmp_path, encoder).search("sort the folder", with_tokens=True)
    assert len(hits) == 4
    for hit in hits:
        explained, lanes = hit["explain"], hit["lanes"]
        assert [match["token"] for match in explained["multi_vector"]] == ["sort", "the", "folder", "[SEP]"]
        assert all(token["token"] in hit["text"].lower() for token in explained["sparse"])
        mean = np.mean([match["score"] for match in explained["multi_vector"]])
        assert lanes["multi_vector"]["score"] == pytest.approx(mean, abs=1e-5)
        if "sparse" in lanes:
            assert sum(token["share"] for token in explained["sparse"]) == pytest.approx(1)
            carried = sum(token["score"] for token in explained["sparse"])
            assert lanes["sparse"]["score"] == pytest.approx(carried, rel=1e-5)
        else:
            assert explained["sparse"] == []


@pytest.mark.parametrize("name", ["sparse.npz", "multi_vector.npz"])
@pytest.mark.parametrize("fault", ["missing", "cut", "garbage"])
def test_damage_is_noticed(encoder: UnifiedEncoder, name: str, fault: str, tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, encoder, "m")
    [path] = tmp_path.glob(f"generation-*/*/{name}")
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-5] if fault == "cut" else b"\x07" * len(content))
    with pytest.raises(ArtifactError, match=r"damaged|no finished index"):
        open_index(tmp_path, encoder)
    build_index(tmp_path, PASSAGES, encoder, "m")
    assert open_index(tmp_path, encoder).search("folder")


def test_an_encoder_without_heads_is_refused(encoder: UnifiedEncoder, tmp_path: Path) -> None:
    class Dense:
        similarity = "cosine"

        def fingerprint_of(self, side: str) -> str:
            return encoder.fingerprint_of("passage")

    build_index(tmp_path, PASSAGES, encoder, "m")
    with pytest.raises(ConfigError, match="open it with the unified model"):
        open_index(tmp_path, Dense())  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["qdrant-edge", "milvus"])
def test_engines_that_keep_sparse_entries_alone(encoder: UnifiedEncoder, engine: str, tmp_path: Path) -> None:
    """They give rows as wide as their largest token id: kept and new ones are joined, and explained, all the same."""
    build_index(tmp_path / "index", PASSAGES, encoder, "m", engine=engine)
    moved = [replace(PASSAGES[0], start=9, end=99), *PASSAGES[1:], Passage("p5", "d5", "One more passage: zebra.")]
    assert build_index(tmp_path / "index", moved, encoder, "m", engine=engine).n_encoded == 1
    build_index(tmp_path / "files", moved, encoder, "m")
    found, expected = (
        open_index(tmp_path / name, encoder).search("parse the folder of a zebra", with_tokens=True)
        for name in ("index", "files")
    )
    assert [hit["passage_id"] for hit in found] == [hit["passage_id"] for hit in expected]
    for one, other in zip(found, expected, strict=True):
        assert [token["token"] for token in one["explain"]["sparse"]] == [
            t["token"] for t in other["explain"]["sparse"]
        ]


def test_a_query_without_tokens_has_no_multi_vector_lane(encoder: UnifiedEncoder, tmp_path: Path) -> None:
    """The model knows no such word; BM25 does."""
    passages = [*PASSAGES, Passage("a0", "d9", "Call the ☃☃ function.")]
    build_index(tmp_path, passages, encoder, "m")
    assert not len(encoder.encode_queries(["[PAD]"], OUTPUTS).multi_vector.token_ids)  # type: ignore[union-attr]
    hits = open_index(tmp_path, encoder).search("[PAD]")
    assert hits
    assert all("multi_vector" not in hit["lanes"] for hit in hits)
