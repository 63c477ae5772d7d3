"""Hard negatives alone: judged data in, a BGE JSONL file with scores and ids out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.errors import ConfigError
from bessemer.formats import write_bge_jsonl
from bessemer.negatives import drawn, mine_hard_negatives
from bessemer.recipes.data import load_judged, open_encoder, open_reranker
from bessemer.recipes.output import claim_file, plain


def negatives(config: Config, split: str, out: str) -> Mapping[str, Any]:
    """Mine for one split of ``config.data`` and write ``out``. Returns the mining report with the number of rows."""
    if config.data is None:
        raise ConfigError("negatives needs --data: a BEIR folder or a BGE JSONL file")
    claim_file(out, "--out")
    material = load_judged(config, require=(split,))
    encoder = CachedEncoder(open_encoder(config, config.model), Path(config.workspace) / "embeddings")
    judged, passages = material.collection.splits[split], material.collection.passages
    mined = mine_hard_negatives(judged, passages, encoder, config.negatives, config.seed, open_reranker(config))
    negatives = drawn(mined.negatives, config.negatives.n_negatives, config.seed)
    n_rows = write_bge_jsonl(out, judged, passages, negatives)
    report: dict[str, Any] = plain(mined.report)
    return {"out": out, "rows": n_rows, **report, "data_warnings": list(material.account["warnings"])}
