"""Fine-tuning alone: judged data in, a sentence-transformers folder with training.json out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.errors import ConfigError
from bessemer.negatives import mine_hard_negatives
from bessemer.recipes.data import Material, load_judged, miner_of, open_encoder, open_reranker
from bessemer.recipes.output import claim_folder, installed_versions, plain, publish_folder
from bessemer.recipes.systems import bm25_over, dense_over
from bessemer.training.batches import TrainingData
from bessemer.training.dev_pool import EvaluationPool, build_dev_pool
from bessemer.training.distributed import join_processes
from bessemer.training.finetune import Selection, Tuned, discard_checkpoints
from bessemer.training.finetune import finetune as fit
from bessemer.types import HardNegatives
from bessemer.workspace import Workspace

FIGURES = "training.json"


def finetune(config: Config, *, resume: bool = True) -> Mapping[str, Any]:
    """Tune ``config.model`` on the train split of ``config.data`` and write the model folder ``config.out``.

    Negatives that the data bring are used; without any they are mined. Checkpoints and the interpolation share are
    chosen on dev, which is carved from train where the data have none. Running it again goes on from the last
    checkpoint, or returns what is done; with ``resume`` False it trains anew. Returns training.json.

    Under torchrun all processes train, on batches of ``per_device_train_batch_size`` queries each; the first one does
    all the rest.
    """
    if config.data is None:
        raise ConfigError("finetune needs --data: a BEIR folder or a BGE JSONL file")
    with (
        join_processes(config.device) as processes,
        Workspace(config.workspace, seed=config.seed, processes=processes) as workspace,
    ):
        with processes.first_ahead():
            if processes.is_first:
                _claim(config.out)
            material = load_judged(config, require=("train",))
            encoder = open_encoder(config, config.model)
            cached = CachedEncoder(encoder, workspace.root / "embeddings")
            negatives = _negatives(config, material, cached, workspace)
            selection = _selection(config, material, cached)
            splits, passages = material.collection.splits, material.collection.passages
            data = TrainingData(splits["train"], passages, negatives, miner_of(config, splits["train"], passages))
            inputs = ([data], encoder, selection, config.finetune, config.seed)
            if processes.is_first and not resume:
                workspace.forget("model", fit, *inputs)
        tuned = workspace.step("model", fit, *inputs)
        return processes.from_first(lambda: _publish(config, tuned, material, encoder))


def _claim(folder: str) -> None:
    out = claim_folder(folder)
    if any(out.iterdir()) and not (out / FIGURES).exists():  # it is replaced as a whole
        raise ConfigError(f"--out {out}: holds files that are not of an earlier finetune; choose a new folder")


def _publish(config: Config, tuned: Tuned, material: Material, encoder: DenseEncoder) -> Mapping[str, Any]:
    discard_checkpoints(tuned)
    result = training_json(tuned, material, encoder, open_encoder(config, str(tuned.model)))
    publish_folder(tuned.model, Path(config.out), {FIGURES: result})
    return result


def training_json(tuned: Tuned, material: Material, base: DenseEncoder, after: DenseEncoder) -> dict[str, Any]:
    fingerprints = {"base": base.fingerprint, "tuned": after.fingerprint}
    extra = {"data": material.account, "versions": installed_versions(), "fingerprints": fingerprints}
    report: dict[str, Any] = plain(tuned.report)
    return {**report, **plain(extra)}


def _negatives(
    config: Config, material: Material, encoder: CachedEncoder, workspace: Workspace
) -> tuple[HardNegatives, ...]:
    if material.given_negatives or config.finetune.n_negatives == 0:
        return material.given_negatives
    train, passages = material.collection.splits["train"], material.collection.passages
    asked = (train, passages, encoder, config.negatives, config.seed, open_reranker(config))
    mined = workspace.step("negatives", mine_hard_negatives, *asked)
    return mined.negatives


def _selection(config: Config, material: Material, encoder: CachedEncoder) -> Selection | None:
    pool = dev_pool(config, material, encoder)
    return Selection(pool, None, config.evaluation.general_margin) if pool else None


def dev_pool(config: Config, material: Material, encoder: CachedEncoder) -> EvaluationPool | None:
    """None where there are no dev queries."""
    dev = material.collection.splits.get("dev")
    if dev is None or not dev.queries:
        return None
    passages = material.collection.passages
    texts = [query.text for query in dev.queries]
    retrieved = [system.search(texts, 100) for system in (bm25_over(passages), dense_over(passages, encoder))]
    base = dict(zip((query.query_id for query in dev.queries), retrieved[1], strict=True))
    return build_dev_pool(dev, passages, retrieved, config.seed, base)
