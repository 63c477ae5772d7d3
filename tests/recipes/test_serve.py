from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bessemer.config import Config
from bessemer.encoders.load import load_encoder
from bessemer.errors import ConfigError
from bessemer.recipes.serve import open_indexes, serve
from bessemer.search.index_build import build_index
from bessemer.types import Passage
from lane_models import write_cross_encoder


def test_indexes_of_one_model_share_it_and_have_names(tiny_static_model: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny_static_model), device="cpu")
    folders = [tmp_path / "a" / "index", tmp_path / "b" / "index", tmp_path / "manuals"]
    for folder in folders:
        build_index(folder, [Passage("p", "d", "w1 w2")], encoder, str(tiny_static_model))
    found = open_indexes([str(folder) for folder in folders], None)
    assert list(found) == [str(folders[0]), str(folders[1]), "manuals"]
    assert len({id(index.encoder) for index in found.values()}) == 1
    assert [hit["passage_id"] for hit in found["manuals"].search("w1")] == ["p"]


def test_a_cross_encoder_alone_is_no_model_to_serve(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path)
    with pytest.raises(ConfigError, match="is a cross-encoder; give it as --reranker"):
        serve(Config(), [], str(folder))
    shutil.rmtree(tmp_path)
