"""report.json: everything that was measured, and everything that went into it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder, Side
from bessemer.errors import ArtifactError
from bessemer.evaluation.separation import Vectors, separation
from bessemer.negatives import MiningReport
from bessemer.recipes.data import Material, text_length
from bessemer.recipes.output import installed_versions, plain
from bessemer.training.finetune import TrainingReport
from bessemer.types import Judged, Passage, Run


def measure_separation(
    test: Judged, passages: Sequence[Passage], base: Encoder, tuned: Encoder, candidates: Run
) -> dict[str, Any]:
    """Histograms of the cosines of relevant and hardest irrelevant test pairs, before and after."""
    systems = {name: _vectors(encoder, test, passages) for name, encoder in (("base", base), ("tuned", tuned))}
    query_ids = [query.query_id for query in test.queries]
    return separation(systems, query_ids, [passage.passage_id for passage in passages], test.qrels, candidates)


def assemble_report(
    config: Config,
    material: Material,
    mining: MiningReport,
    training: TrainingReport,
    evaluation: Mapping[str, Any],
    base: DenseEncoder,
    tuned: DenseEncoder,
) -> dict[str, Any]:
    """The dict that becomes report.json and report.html (keys: docs/report.md)."""
    data = {**material.account, "truncated": truncation(material, base)}
    measured = {"data": data["name"], "split": "test", **evaluation}
    report: dict[str, Any] = plain({
        "bessemer": installed_versions()["bessemer"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "seed": config.seed,
        "verdict": evaluation.get("verdict"),
        "data": data,
        "negatives": mining,
        "training": training,
        "evaluation": measured,
        "settings": config.model_dump(mode="json"),
        "versions": installed_versions(),
        "fingerprints": {"base": base.fingerprint, "tuned": tuned.fingerprint},
    })  # fmt: skip
    return report


def _command() -> str:
    """As it was typed; "" where Python code called the recipe, whose arguments are another program's."""
    program = Path(sys.argv[0])
    is_ours = program.stem == "bessemer" or program.parts[-2:] == ("bessemer", "__main__.py")
    return shlex.join(["bessemer", *sys.argv[1:]]) if is_ours else ""


def truncation(material: Material, encoder: DenseEncoder) -> dict[Side, int]:
    """How many passages and test queries are longer than the model reads."""
    collection = material.collection
    texts: dict[Side, list[str]] = {
        "passage": [passage.indexed_text for passage in collection.passages],
        "query": [query.searched_text for query in collection.splits["test"].queries],
    }
    cut = {}
    for side, some in texts.items():
        limit = text_length(encoder, side)
        cut[side] = 0 if limit is None else sum(n > limit for n in encoder.count_tokens(some))
    return cut


def _vectors(encoder: Encoder, test: Judged, passages: Sequence[Passage]) -> Vectors:
    queries = encoder.encode_queries([query.searched_text for query in test.queries]).dense
    corpus = encoder.encode_passages([passage.indexed_text for passage in passages]).dense
    if queries is None or corpus is None:
        raise ArtifactError("this encoder gives no dense vectors; choose a dense model")
    return Vectors(queries, corpus)
