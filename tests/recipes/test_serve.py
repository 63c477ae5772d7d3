from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bessemer.config import Config, FinetuneConfig, LLMConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.encoders.search_encoder import open_for_search
from bessemer.errors import ConfigError
from bessemer.recipes.ask import ask
from bessemer.recipes.evaluate import evaluate
from bessemer.recipes.search import search
from bessemer.recipes.serve import open_indexes, open_served, serve
from bessemer.search.index_build import build_index
from bessemer.types import Passage
from lane_models import write_cross_encoder, write_multi_vector, write_sparse
from scripted_llm import echo, serving


def test_indexes_of_one_model_share_it_and_have_names(tiny_static_model: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny_static_model), device="cpu")
    folders = [tmp_path / "a" / "index", tmp_path / "b" / "index", tmp_path / "manuals"]
    for folder in folders:
        build_index(folder, [Passage("p", "d", "w1 w2")], encoder, str(tiny_static_model))
    found = open_indexes(Config(), [str(folder) for folder in folders])
    assert list(found) == [str(folders[0]), str(folders[1]), "manuals"]
    assert len({id(index.encoder) for index in found.values()}) == 1
    assert [hit["passage_id"] for hit in found["manuals"].search("w1")] == ["p"]


@pytest.mark.parametrize("verb", ["search", "serve", "ask", "evaluate"])
def test_the_model_of_an_index_runs_where_the_user_says(
    verb: str, tiny_static_model: Path, english_beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No index was built with a device's name in it; a machine with a GPU would take that."""
    encoder = load_encoder(str(tiny_static_model), device="cpu")
    folder = str(tmp_path / "index")
    build_index(folder, [Passage("p", "d", "w1 w2"), Passage("q", "e", "w3 w4")], encoder, str(tiny_static_model))
    asked = []

    def watched(name: str, **how: Any) -> DenseEncoder:
        asked.append((how["device"], how["trust_remote_code"]))
        return open_for_search(name, **{**how, "device": "cpu", "trust_remote_code": None})

    monkeypatch.setattr("bessemer.encoders.search_encoder.open_for_search", watched)
    config = Config(device="cuda:1", trust_remote_code="0123abc", workspace=str(tmp_path / "workspace"))
    if verb == "search":
        search(config, folder, "w1")
    elif verb == "serve":
        open_indexes(config, [folder])[Path(folder).name].search("w1")
    elif verb == "evaluate":
        evaluate(config.model_copy(update={"data": str(english_beir)}), [f"x=index:{folder}"])
    else:
        with serving(echo) as server:
            llm = LLMConfig(url=server.url, model="m")
            ask(config.model_copy(update={"llm": llm}), [folder], "w1")
    assert asked == [("cuda:1", "0123abc")]


@pytest.mark.parametrize("write", [write_sparse, write_multi_vector])
def test_a_model_alone_has_the_lengths_of_the_configuration(write: Callable[[Path], Path], tmp_path: Path) -> None:
    config = Config(device="cpu", finetune=FinetuneConfig(max_length=16, query_max_length=8))
    encoder: Any = open_served(config, [], str(write(tmp_path))).encoder
    assert (encoder.max_length, encoder.query_max_length) == (16, 8)


def test_a_cross_encoder_alone_is_no_model_to_serve(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path)
    with pytest.raises(ConfigError, match="is a cross-encoder; give it as --reranker"):
        serve(Config(), [], str(folder))
    shutil.rmtree(tmp_path)
