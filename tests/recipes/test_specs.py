"""Systems of every kind on one small collection, by models of every kind."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import english_world
from bessemer.config import Config
from bessemer.encoders.encoder import OUTPUTS
from bessemer.encoders.load import load_encoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ConfigError
from bessemer.formats.trec import read_run
from bessemer.recipes.data import load_judged, open_encoder
from bessemer.recipes.evaluate import evaluate
from bessemer.recipes.index import index
from bessemer.recipes.specs import parse_systems
from bessemer.recipes.summary import WIDTH, evaluation_summary
from lane_models import write_cross_encoder, write_multi_vector, write_sparse, write_unified

Configure = Callable[..., Config]


@pytest.fixture(scope="module")
def unified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unified(tmp_path_factory.mktemp("unified"))


@pytest.fixture
def config(configure: Configure, english_beir: Path, tmp_path: Path) -> Config:
    return configure(tmp_path, data=str(english_beir))


def test_an_index_is_closed_once_it_was_looked_at_and_once_it_ran(config: Config) -> None:
    """A shard of Qdrant Edge that is open opens for nobody else, in the same process either."""
    edge = config.model_copy(update={"index": config.index.model_copy(update={"engine": "qdrant-edge"})})
    index(edge)
    gc.disable()  # an index and its engine know each other: without its luck they stay
    try:
        systems = evaluate(edge, [f"a=index:{edge.out}", f"b=index:{edge.out}"])["systems"]
    finally:
        gc.enable()
    assert systems["a"]["measures"] == systems["b"]["measures"]


def test_a_unified_model_reports_its_lanes_and_their_ensemble(config: Config, unified: Path, tmp_path: Path) -> None:
    systems = ["bm25=bm25", f"u=unified:{unified}", "both=hybrid:u.dense+bm25", f"again=unified:{unified}"]
    result = evaluate(config, systems, runs_folder=str(tmp_path / "runs"))
    named = [f"{name}{lane}" for name in ("u", "again") for lane in (".dense", ".sparse", ".multi", "")]
    assert list(result["systems"]) == ["bm25", *named[:4], "both", *named[4:]]
    first = result["comparisons"][0]
    assert (first["baseline"], first["treatment"]) == ("bm25", "again")
    facts = result["systems"]["u"]
    encoder = load_encoder(str(unified), device="cpu")
    assert isinstance(encoder, UnifiedEncoder)
    material = load_judged(config, require=("test",))
    texts = [passage.indexed_text for passage in material.collection.passages]
    encoded = encoder.encode_passages(texts, OUTPUTS)
    assert encoded.sparse is not None
    assert encoded.multi_vector is not None
    assert facts["active_dimensions"]["passage"] == pytest.approx(encoded.sparse.nnz / len(texts), rel=0.01)
    assert facts["bytes_per_passage"] == encoded.multi_vector.n_bytes / len(texts)
    assert facts["lane_weights"] == {"dense": 1.0, "sparse": 0.3, "multi_vector": 1.0}
    assert result["systems"]["u.sparse"]["active_dimensions"] == facts["active_dimensions"]
    assert "bytes_per_passage" not in result["systems"]["u.dense"]
    run = read_run(tmp_path / "runs" / "u.dense.trec").results
    assert run.keys() == {f"q{i}" for i in english_world.SPLITS["test"]}
    summary = evaluation_summary(result)
    assert "\nu.sparse: " in summary
    assert max(map(len, summary.splitlines())) <= WIDTH
    alone = evaluate(config, [f"u=unified:{unified}"])
    assert (alone["comparisons"][0]["baseline"], alone["comparisons"][0]["treatment"]) == ("u.dense", "u")


def test_one_lane_of_a_unified_model_is_the_lane(config: Config, unified: Path) -> None:
    systems = [f"u=unified:{unified}", f"s=sparse:{unified}", f"m=multi:{unified}", f"d=dense:{unified}"]
    measured = evaluate(config, systems)["systems"]
    for lane, name in (("u.sparse", "s"), ("u.multi", "m"), ("u.dense", "d")):
        assert measured[name]["measures"] == pytest.approx(measured[lane]["measures"], abs=1e-9)


def test_splade_colbert_and_rerankers(config: Config, unified: Path, tmp_path: Path) -> None:
    sparse, multi, cross = write_sparse(tmp_path), write_multi_vector(tmp_path), write_cross_encoder(tmp_path)
    systems = [
        "bm25=bm25", f"s=sparse:{sparse}", f"m=multi:{multi}", f"x=rerank:bm25:{cross}", f"r=rerank:s:{multi}",
        f"v=rerank:bm25:{unified}", "h=hybrid:r+s",
    ]  # fmt: skip
    result = evaluate(config, systems, runs_folder=str(tmp_path / "runs"))
    assert set(result["systems"]["s"]) == {"measures", "queries_per_second", "active_dimensions"}
    assert set(result["systems"]["r"]) == {"measures", "queries_per_second", "bytes_per_passage"}
    runs = {name: read_run(tmp_path / "runs" / f"{name}.trec").results for name in result["systems"]}
    for name, first in (("x", "bm25"), ("r", "s"), ("v", "bm25")):
        for query_id, hits in runs[name].items():
            assert {p for p, _ in hits} == {p for p, _ in runs[first][query_id]}
    every = {p for p, _ in runs["m"]["q50"]} if "q50" in runs["m"] else set()
    for query_id, hits in runs["r"].items():  # a reranked list has the order of the whole search
        whole = [p for p, _ in runs["m"][query_id]]
        assert [p for p, _ in hits if p in whole] == [p for p in whole if p in dict(hits)], every
    assert any("cut to the model's length" in warning for warning in result["warnings"])
    assert max(map(len, evaluation_summary(result).splitlines())) <= WIDTH


def test_models_without_dense_vectors_are_not_opened_as_dense_ones(config: Config, tmp_path: Path) -> None:
    for folder, said in (
        (write_sparse(tmp_path), "a sparse model, and dense vectors are needed here; `finetune --head sparse` trains"),
        (write_multi_vector(tmp_path), "a multi-vector model, and dense vectors are needed here; `finetune --head mul"),
        (write_cross_encoder(tmp_path), "a cross-encoder, and dense vectors are needed here; it ranks again"),
    ):
        with pytest.raises(ConfigError, match=re.escape(f"{folder} is {said}")):
            open_encoder(config, str(folder))


def test_every_fault_of_the_systems_at_once() -> None:
    faulty = [
        "a=foo", "u=unified", "v=unified:m", "v.dense=bm25", "r=rerank:v", "r2=rerank:none:m", "w.multi=bm25",
        "w=unified:m", "h=hybrid:v.dense+v", "h2=hybrid:v.dense+v.x", "a b=bm25",
    ]  # fmt: skip
    with pytest.raises(ConfigError) as error:
        parse_systems(faulty)
    lines = str(error.value).splitlines()
    assert [line.split(": ")[0].removeprefix("--system ") for line in lines] == [
        "a=foo", "u=unified", "v.dense=bm25", "r=rerank:v", "r2=rerank:none:m", "w=unified:m", "h2=hybrid:v.dense+v.x",
        "a b=bm25",
    ]  # fmt: skip
    for spelled in ("sparse:MODEL", "multi:MODEL", "unified:MODEL", "hybrid:NAME+NAME", "rerank:NAME:MODEL"):
        assert spelled in lines[0]
    assert "the name v.dense is taken" in lines[2]
    assert "the name w.multi is taken" in lines[5]


def test_models_of_another_kind_are_named_before_anything_runs(config: Config, unified: Path, tmp_path: Path) -> None:
    sparse, cross = write_sparse(tmp_path), write_cross_encoder(tmp_path)
    with pytest.raises(ConfigError) as error:
        evaluate(
            config,
            [
                "bm25=bm25", "u=unified:minilm", f"d=dense:{sparse}", f"m=multi:{sparse}", "s=sparse:minilm",
                f"x=dense:{cross}", f"r=rerank:bm25:{sparse}", "r2=rerank:bm25:minilm", "n=sparse:./nowhere",
            ],
        )  # fmt: skip
    lines = str(error.value).splitlines()
    assert len(lines) == 8
    advice = "minilm is a dense model: give dense:minilm, or train heads with `bessemer finetune --head unified`"
    assert lines[0] == f"--system u=unified:minilm: {advice}"
    assert f"is a sparse model: give sparse:{sparse}" in lines[1]
    assert f"is a cross-encoder: give rerank:NAME:{cross}" in lines[4]
    assert "rerank with a cross-encoder, a multi-vector or a unified model" in lines[6]
    assert "./nowhere: no such folder" in lines[7]
