from __future__ import annotations

from pathlib import Path

import pytest

from bessemer.config import FinetuneConfig
from bessemer.encoders.load import load_encoder
from bessemer.encoders.widths import widths_of
from bessemer.training.finetune import _save


def test_a_trained_folder_names_its_widths(tiny_static_model: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny_static_model), device="cpu")
    _save(encoder, tmp_path / "cut", FinetuneConfig(matryoshka_dims=(8, 4)))
    _save(encoder, tmp_path / "whole", FinetuneConfig())
    assert widths_of(str(tmp_path / "cut")) == (4, 8)
    assert widths_of(str(tmp_path / "whole")) == ()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"matryoshka_dims": "a"}', "\x00"])
def test_a_damaged_file_names_none(tiny_static_model: Path, tmp_path: Path, content: str) -> None:
    load_encoder(str(tiny_static_model), device="cpu").save(tmp_path)
    (tmp_path / "matryoshka.json").write_text(content)
    assert widths_of(str(tmp_path)) == ()
