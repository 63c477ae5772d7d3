"""How the lanes of an index are fused, by the dev queries of judged data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.encoder import Encoder
from bessemer.errors import ConfigError
from bessemer.formats import load_collection
from bessemer.questions.withhold import extracted_from
from bessemer.search.fusion_tuning import tune_fusion
from bessemer.search.index import open_index
from bessemer.search.index_manifest import write_fusion
from bessemer.types import Collection, Judged


def fusion_collection(config: Config) -> Collection | None:
    """The data of ``config.index.fusion_data``. Raises ConfigError where it is not there, DataError where it has no dev
    queries."""
    name = config.index.fusion_data
    if name is None:
        return None
    if not name.startswith("hf:") and not Path(name).exists():
        raise ConfigError(f"--fusion-data {name}: no such file or folder; give judged data with dev queries")
    return load_collection(name, seed=config.seed, require=("dev",)).collection


def tune_index(location: str, encoder: Encoder, collection: Collection) -> Mapping[str, Any]:
    """Tune the fusion of the index by the dev queries, write it into the index and return it, with the number of
    ``unusable`` dev queries: those without a relevant passage that the index holds, and those extracted from passages
    that it holds whole. Raises ConfigError where all are that."""
    index = open_index(location, encoder)
    judged = collection.splits["dev"]
    extracted = extracted_from(judged, collection.passages)
    asked = [query for query in judged.queries if query.query_id not in extracted]
    queries = [query for query in asked if _is_answered(query.query_id, judged, index.passage_ids)]
    if not queries:
        raise ConfigError(
            f"--fusion-data: none of the {len(judged.queries)} dev queries has a relevant passage in the index and was "
            f"not extracted from it ({len(extracted)} were, and the index holds the whole passages); give judged "
            "questions of people on the passages of this index"
        )
    found = index.lanes([query.searched_text for query in queries])
    lanes = {query.query_id: lists for query, lists in zip(queries, found, strict=True)}
    tuned = {**tune_fusion(lanes, judged.qrels).to_dict(), "unusable": len(judged.queries) - len(queries)}
    write_fusion(index.engine, tuned)
    return tuned


def _is_answered(query_id: str, judged: Judged, passage_ids: frozenset[str]) -> bool:
    return any(grade > 0 and passage_id in passage_ids for passage_id, grade in judged.qrels.get(query_id, {}).items())
