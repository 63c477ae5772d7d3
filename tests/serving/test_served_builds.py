from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from served import running

import english_world
from bessemer.config import Config
from bessemer.encoders.load import load_encoder
from bessemer.encoders.widths import write_widths
from bessemer.errors import ConfigError
from bessemer.recipes.export import export
from bessemer.recipes.index import index
from bessemer.recipes.serve import open_served

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

QUERY = "parse command line arguments"


@pytest.fixture(scope="module")
def settings(english_beir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """Of a tiny model with a build for onnx beside it."""
    root = tmp_path_factory.mktemp("served_builds")
    model = english_world.write_bert_model(root / "model")
    write_widths(model, (8,))

    def make(**changes: str) -> Config:
        given = {"model": str(model), "data": str(english_beir), "workspace": str(root / "workspace"), **changes}
        return Config(**{**given, "evaluation": {"bootstrap_samples": 200}, "finetune": {"bf16": False}})

    export(make(), "onnx")
    return make


def test_a_model_is_served_by_its_build(settings: Callable[..., Config]) -> None:
    config = settings()
    plain = load_encoder(config.model, device="cpu", bf16=False).encode([QUERY], "query")[0]
    by_flag = open_served(config, [], config.model, "onnx")
    by_folder = open_served(config, [], str(Path(config.model) / "onnx"))
    assert by_flag.name == by_folder.name == "model/onnx"
    assert by_flag.widths == (8,)
    with running(by_flag) as client:
        body = {"input": [QUERY, QUERY + " and more" * 200], "input_type": "query"}
        found = client.post("/v1/embeddings", json=body).json()
        assert client.get("/v1/models").json()["data"][0]["id"] == "model/onnx"
    np.testing.assert_allclose(found["data"][0]["embedding"], plain, atol=1e-5)
    assert [row["truncated"] for row in found["data"]] == [False, True]


def test_an_index_is_searched_by_the_build_beside_its_model(settings: Callable[..., Config], tmp_path: Path) -> None:
    index(settings(out=str(tmp_path / "manuals")))
    found = []
    for backend in (None, "onnx"):
        served = open_served(settings(), [str(tmp_path / "manuals")], None, backend)
        with running(served) as client:
            found.append(client.post("/search", json={"query": QUERY, "top_k": 3}).json()["hits"])
    assert served.name == "model/onnx"
    assert [hit["passage_id"] for hit in found[1]] == [hit["passage_id"] for hit in found[0]]


def test_a_build_that_is_not_there_or_is_another(settings: Callable[..., Config], tmp_path: Path) -> None:
    config = settings()
    with pytest.raises(ConfigError, match="holds no build; make it with `bessemer export"):
        open_served(config, [], config.model, "openvino")
    with pytest.raises(ConfigError, match="--backend int8: not known; known: onnx, onnx-int8, openvino"):
        open_served(config, [], config.model, "int8")
    with pytest.raises(ConfigError, match="onnx is a build for onnx; give that, or the model's folder"):
        open_served(config, [], str(Path(config.model) / "onnx"), "openvino")
    index(settings(out=str(tmp_path / "manuals")))
    shutil.copytree(Path(config.model) / "onnx", tmp_path / "kept")
    with pytest.raises(ConfigError, match="holds no build"):
        open_served(config, [str(tmp_path / "manuals")], None, "openvino")
