"""Bessemer: from a company's documents to a retriever that finds them, and proves it.

    from bessemer import Config, finetune
    finetune(Config(data="beir/scifact", model="minilm", out="tuned"))
    model = SentenceTransformer("tuned")

Names are loaded on first use: ``import bessemer`` costs nothing and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bessemer.config import Config as Config
    from bessemer.config import load_config as load_config
    from bessemer.encoders.load import load_encoder as load_encoder
    from bessemer.formats import load_collection as load_collection
    from bessemer.negatives import mine_hard_negatives as mine_hard_negatives
    from bessemer.recipes.adapt import adapt as adapt
    from bessemer.recipes.demo import demo as demo
    from bessemer.recipes.evaluate import evaluate as evaluate
    from bessemer.recipes.finetune import finetune as finetune
    from bessemer.recipes.index import index as index
    from bessemer.recipes.validate import validate as validate
    from bessemer.search.index import open_index as open_index

_HOME = {
    "Config": "bessemer.config",
    "load_config": "bessemer.config",
    "load_encoder": "bessemer.encoders.load",
    "load_collection": "bessemer.formats",
    "mine_hard_negatives": "bessemer.negatives",
    "adapt": "bessemer.recipes.adapt",
    "demo": "bessemer.recipes.demo",
    "evaluate": "bessemer.recipes.evaluate",
    "finetune": "bessemer.recipes.finetune",
    "index": "bessemer.recipes.index",
    "validate": "bessemer.recipes.validate",
    "open_index": "bessemer.search.index",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bessemer' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
