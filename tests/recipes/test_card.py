from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bessemer.config import Config
from bessemer.errors import ConfigError
from bessemer.recipes.adapt import adapt, plan
from bessemer.recipes.evaluate import evaluate

Configure = Callable[..., Config]


def with_measures(configure: Configure, data: Path, root: Path, *measures: str) -> Config:
    return configure(root, data=str(data), evaluation={"general": "none", "measures": measures})


def test_the_card_shows_the_measures_that_there_are(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    """R@1 and R@5, which a card shows, are in no report of these; R@10 and RR@10 are in all."""
    adapt(with_measures(configure, english_beir, tmp_path, "nDCG@10", "P@3"))
    card = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| system | nDCG@10 | R@10 | RR@10 |\n|---|---|---|---|\n| bm25 | 0." in card


def test_misspelled_measures_are_refused_before_anything_runs(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    config = with_measures(configure, english_beir, tmp_path, "nDGC@10")
    for verb in (adapt, plan):
        with pytest.raises(ConfigError, match="unknown measure 'nDGC@10'"):
            verb(config)
    with pytest.raises(ConfigError, match="unknown measure 'nDGC@10'"):
        evaluate(config, ["base=bm25"], runs_folder=str(tmp_path / "runs"))
    assert list(tmp_path.iterdir()) == []
