"""One finished `adapt` on the small world of English, for all the tests that look at what it left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bessemer.config import Config
from bessemer.recipes.adapt import adapt

TRAINING = {"learning_rate": 0.05, "max_steps": 8}
EVALUATION = {"general": "none", "bootstrap_samples": 200}


@dataclass(frozen=True)
class Adapted:
    config: Config
    report: Mapping[str, Any]

    @property
    def out(self) -> Path:
        return Path(self.config.out)


@pytest.fixture(scope="session")
def configure(english_model: Path) -> Callable[..., Config]:
    """A quick configuration below ``root``; keywords replace keys of the top level."""

    def make(root: Path, **changes: Any) -> Config:
        quick = {"finetune": TRAINING, "evaluation": EVALUATION, "model": str(english_model), "device": "cpu"}
        return Config(**{"out": str(root / "out"), "workspace": str(root / "workspace"), **quick, **changes})

    return make


@pytest.fixture(scope="session")
def adapted(tmp_path_factory: pytest.TempPathFactory, configure: Callable[..., Config], english_beir: Path) -> Adapted:
    config = configure(tmp_path_factory.mktemp("adapted"), data=str(english_beir))
    return Adapted(config, adapt(config))
