from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bessemer.cli import app
from bessemer.config import Config
from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.cpu.open import open_build
from bessemer.errors import ArtifactError, ConfigError, RefusedError
from bessemer.recipes.data import open_search_encoder
from bessemer.recipes.evaluate import evaluate
from bessemer.recipes.export import export
from bessemer.recipes.index import index
from bessemer.recipes.summary import export_summary
from bessemer.search.index import open_index
from lane_models import write_unified

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT over the words of the world, cosine similarity, in a folder of sentence-transformers."""
    import english_world

    return english_world.write_bert_model(tmp_path_factory.mktemp("export") / "model")


@pytest.fixture(scope="module")
def settings(model: Path, english_beir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    workspace = tmp_path_factory.mktemp("export_workspace")

    def make(**changes: Any) -> Config:
        given = {"model": str(model), "data": str(english_beir), "workspace": str(workspace)}
        return Config(**{**given, "evaluation": {"bootstrap_samples": 200}, "finetune": {"bf16": False}, **changes})

    return make


@pytest.fixture(scope="module")
def exported(settings: Callable[..., Config]) -> dict[str, Any]:
    """Beside the model, as nobody says where."""
    return dict(export(settings(), "onnx"))


def test_the_build_lies_beside_the_model_and_holds_what_was_measured(
    exported: dict[str, Any], model: Path, settings: Callable[..., Config]
) -> None:
    assert exported["out"] == str(model / "onnx")
    assert sorted(path.name for path in (model / "onnx").iterdir()) == ["build.json", "model.onnx", "tokenizer.json"]
    build = json.loads((model / "onnx" / "build.json").read_text(encoding="utf-8"))
    systems = build["measured"]["systems"]
    assert systems["source"]["nDCG@10"] == systems["build"]["nDCG@10"] > 0
    assert {"bytes", "query_ms", "passages_per_second"} <= systems["build"].keys()
    assert build["measured"]["comparisons"][0]["difference"] == 0
    assert "8 dev queries" in build["measured"]["dev"]
    encoder = open_search_encoder(settings(), str(model), "onnx")
    assert isinstance(encoder, CpuEncoder)
    assert build["stands_for"] == {"": open_search_encoder(settings(), str(model)).fingerprint}
    with pytest.raises(ConfigError, match="holds no build; make it with `bessemer export"):
        open_search_encoder(settings(), str(model), "openvino")
    text = export_summary(exported)
    assert max(map(len, text.splitlines())) <= 80
    assert "may search an index" in text


def test_an_index_of_the_model_is_searched_by_its_build_and_an_index_of_the_build_by_no_model(
    exported: dict[str, Any], model: Path, settings: Callable[..., Config], tmp_path: Path
) -> None:
    of_model, of_build = tmp_path / "of_model", tmp_path / "of_build"
    index(settings(out=str(of_model)))
    index(settings(out=str(of_build), model=exported["out"]))
    source, build = open_search_encoder(settings(), str(model)), open_search_encoder(settings(), exported["out"])
    query = "parse command line arguments"
    plain, served = open_index(of_model, source).search(query, 3), open_index(of_model, build).search(query, 3)
    assert [hit["passage_id"] for hit in served] == [hit["passage_id"] for hit in plain]
    assert served[0]["lanes"]["dense"]["score"] == pytest.approx(plain[0]["lanes"]["dense"]["score"], abs=1e-5)
    assert open_index(of_build).search(query, 3)[0]["passage_id"] == plain[0]["passage_id"]
    with pytest.raises(ArtifactError, match="vectors of two models cannot be compared"):
        open_index(of_build, source)


def test_frameworks_open_a_build(exported: dict[str, Any], settings: Callable[..., Config]) -> None:
    from bessemer.clients.in_process import InProcessModel

    text = "parse command line arguments"
    own = open_search_encoder(settings(), exported["out"]).encode([text], "query")[0]
    assert InProcessModel(exported["out"]).query(text) == own.tolist()
    mteb = pytest.importorskip("bessemer.clients.mteb", exc_type=ImportError)
    meta = mteb.BessemerEncoder(exported["out"]).mteb_model_meta
    assert (meta.name, meta.n_parameters, meta.embed_dim) == ("bessemer/onnx", None, len(own))


def test_a_build_is_a_dense_system_of_evaluate(exported: dict[str, Any], settings: Callable[..., Config]) -> None:
    model = settings().model
    found = evaluate(settings(), [f"model=dense:{model}", f"build=dense:{exported['out']}"])
    first, second = (found["systems"][name]["measures"]["nDCG@10"] for name in ("model", "build"))
    assert first == pytest.approx(second, abs=1e-6)


def test_a_build_that_loses_too_much_is_refused_and_leaves_nothing(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights rounded to whole numbers, which leaves those of one table or product all zero."""
    import onnx
    from onnx import numpy_helper

    def lossy(source: Path, target: Path) -> None:
        graph = onnx.load(source)
        for tensor in graph.graph.initializer:
            if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(values.round(), tensor.name))
        onnx.save(graph, target)

    monkeypatch.setattr("bessemer.recipes.export.SCHEMES", {"whole numbers": lossy})
    with pytest.raises(RefusedError, match=r"whole numbers: nDCG@10 on dev falls from 0\.\d+ to 0\.\d+") as refused:
        export(settings(), "onnx-int8", str(tmp_path / "build"))
    assert refused.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_without_judged_data_vectors_are_compared(
    settings: Callable[..., Config], english_documents: Path, tmp_path: Path
) -> None:
    config = settings(data=None, source=str(english_documents))
    result = export(config, "onnx-int8", str(tmp_path / "build"))
    assert result["recall"].startswith("not measured")
    assert result["lowest_cosine"] > 0.98
    assert result["stands_for_source"] is False
    assert "may not search an index" in export_summary(result)
    assert "nDCG@10" not in result["systems"]["build"]


@pytest.mark.parametrize(("output", "called"), [("weights", "sparse weights"), ("vectors", "token vectors")])
def test_without_judged_data_all_outputs_of_a_unified_model_are_compared(
    output: str, called: str, settings: Callable[..., Config], english_documents: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Numbers that are all 0 have cosine 0 with any others."""

    def opened_without_output(folder: Path) -> CpuEncoder:
        build = open_build(folder)
        network = build._network
        build._network = lambda ids, mask: {**network(ids, mask), output: 0 * network(ids, mask)[output]}
        return build

    monkeypatch.setattr("bessemer.recipes.export.open_build", opened_without_output)
    config = settings(model=str(write_unified(tmp_path)), data=None, source=str(english_documents))
    with pytest.raises(RefusedError, match=f"float32: its {called} have cosine 0.000000 with the source's, below 0.9"):
        export(config, "onnx", str(tmp_path / "build"))
    assert not (tmp_path / "build").exists()


def test_weights_of_a_large_model_lie_beside_the_graph(
    settings: Callable[..., Config], english_documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 1_000)
    config = settings(data=None, source=str(english_documents))
    assert export(config, "onnx", str(tmp_path / "build"))["lowest_cosine"] > 0.9999
    names = {path.name: path.stat().st_size for path in (tmp_path / "build").iterdir()}
    assert names.keys() == {"build.json", "model.onnx", "model.onnx.data", "tokenizer.json"}
    texts = ["parse command line arguments", "a list of files"]
    built, source = (open_search_encoder(config, name) for name in (str(tmp_path / "build"), config.model))
    np.testing.assert_allclose(built.encode_queries(texts).dense, source.encode_queries(texts).dense, atol=1e-5)
    (tmp_path / "build" / "model.onnx.data").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data: cannot be read"):
        open_build(tmp_path / "build")


def test_a_unified_build_is_near_in_all_outputs(
    settings: Callable[..., Config], english_documents: Path, tmp_path: Path
) -> None:
    config = settings(model=str(write_unified(tmp_path)), data=None, source=str(english_documents))
    assert export(config, "onnx", str(tmp_path / "build"))["lowest_cosine"] > 0.9999


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backend", "tensorrt"), "known: onnx, onnx-int8, openvino"),
        (("--backend", "onnx", "--model", "minilm"), "give --out"),
        (("--backend", "onnx", "--out", "FILE"), "is a file; give a folder"),
        (("--backend", "onnx", "--out", "FULL"), "holds files that are no build"),
        (("--backend", "onnx", "--out", "out"), "give one of --data (measured), --source and --index"),
        (("--backend", "onnx", "--out", "out", "--model", "STATIC"), "a static model"),
    ],
)
def test_usage_errors(
    arguments: tuple[str, ...], words: str, model: Path, english_model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "mine.txt").touch()
    chosen = [str(english_model) if argument == "STATIC" else argument for argument in arguments]
    own = [] if "--model" in arguments else ["--model", str(model)]
    result = CliRunner().invoke(app, ["export", *chosen, *own])
    assert result.exit_code == 2
    assert words in result.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_refused_before_any_work(settings: Callable[..., Config], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be written to"):
        export(settings(), "onnx", str(tmp_path / "build"))
    tmp_path.chmod(0o700)


def test_what_cannot_be_a_folder_is_refused_before_any_work(settings: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file; give a folder"):
        export(settings(), "onnx", str(tmp_path / "file" / "build"))
