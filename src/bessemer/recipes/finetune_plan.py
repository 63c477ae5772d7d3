"""What `finetune` would do: which negatives and whether the model are done, and about how long the rest takes here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.trainable import Trainable
from bessemer.recipes.encoding_plan import (
    TO_RUN,
    encoding_step,
    is_kept,
    plan_of,
    seconds_per_text,
    step_of,
    training_seconds,
)
from bessemer.recipes.final_fit import n_pairs
from bessemer.recipes.finetune import (
    MODEL,
    inputs_of_fit,
    is_mined,
    load_all_parts,
    mine,
    settled,
    step_of_mining,
    with_cache,
)
from bessemer.recipes.lane_training import open_to_train
from bessemer.recipes.pairs import PairMaterial
from bessemer.recipes.tasks import Part
from bessemer.training.checkpoints import last_whole_checkpoint
from bessemer.training.finetune import finetune as fit
from bessemer.workspace import Workspace, WouldRun

CACHED = "cached"


def plan_finetune(config: Config, *, resume: bool = True) -> dict[str, Any]:
    """A step for the negatives of each part that has none yet, and one for the model. Nothing is written.

    What is done is told only where all vectors are kept that lead to it: to compute them is what a dry run spares. So
    a model that gives other vectors than dense ones is always to run.
    """
    config = settled(config)
    parts = load_all_parts(config)
    base = open_to_train(config, config.model)
    with Workspace(config.workspace, seed=config.seed, dry_run=True) as workspace:
        steps = [_mining(part, base, workspace) for part in parts if is_mined(part)]
        known = all(step["state"] == CACHED for step in steps) and all(_pool_is_kept(p, base, workspace) for p in parts)
        state = _state_of_model(config, parts, base, workspace) if known and resume else {"state": TO_RUN}
    return plan_of([*steps, {**step_of(MODEL, _seconds(parts, base)), **state}], out=config.out)


def _mining(part: Part, base: Trainable, workspace: Workspace) -> dict[str, Any]:
    assert not isinstance(part.material, PairMaterial)
    collection = part.material.collection
    texts = collection.passages, collection.splits["train"].queries
    step = encoding_step(step_of_mining(part), base, *texts, workspace.root / "embeddings")
    if not is_kept(step):
        return step
    try:
        mine(part, with_cache(base, workspace), workspace)
    except WouldRun:
        return step
    return {**step, "state": CACHED}


def _pool_is_kept(part: Part, base: Trainable, workspace: Workspace) -> bool:
    """Whether the passages that dev is judged on are found without encoding."""
    if isinstance(part.material, PairMaterial):
        return True
    collection = part.material.collection
    dev = collection.splits.get("dev")
    if dev is None or not dev.queries:
        return True
    return is_kept(encoding_step("", base, collection.passages, dev.queries, workspace.root / "embeddings"))


def _state_of_model(config: Config, parts: Sequence[Part], base: Trainable, workspace: Workspace) -> dict[str, Any]:
    """``done``: the step of the checkpoint from which training would go on."""
    encoder = with_cache(base, workspace)
    mined = [mine(part, encoder, workspace) for part in parts]
    inputs = inputs_of_fit(config, parts, mined, base, workspace)
    if workspace.is_done(MODEL, fit, *inputs):
        return {"state": CACHED, "seconds": 0.0}
    checkpoint = last_whole_checkpoint(workspace.unfinished(MODEL, fit, *inputs) / "checkpoints")
    return {"state": TO_RUN, "done": int(Path(checkpoint).name.split("-")[1]) if checkpoint else 0}


def _seconds(parts: Sequence[Part], base: Trainable) -> float:
    seconds = 0.0
    for part in parts:
        tuning = part.config.finetune
        if isinstance(part.material, PairMaterial):
            texts = [pair.left for pair in part.material.train]
            seconds += training_seconds(tuning, len(texts), 0, 0, seconds_per_text(base.encode_passages, texts))
            continue
        collection = part.material.collection
        texts = [passage.indexed_text for passage in collection.passages]
        n_dev = len(collection.splits["dev"].queries) if "dev" in collection.splits else 0
        sizes = n_pairs(collection.splits["train"]), n_dev, len(texts)
        seconds += training_seconds(tuning, *sizes, seconds_per_text(base.encode_passages, texts))
    return seconds
