"""What `finetune` would do: which negatives and whether the model are done, and about how long the rest takes here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.encoders.foreign import ForeignEncoder
from bessemer.encoders.trainable import Trainable
from bessemer.negatives import Mined
from bessemer.recipes.encoding_plan import seconds_per_text, to_encode, training_seconds
from bessemer.recipes.final_fit import n_pairs
from bessemer.recipes.finetune import (
    FIGURES,
    MODEL,
    inputs_of_fit,
    is_mined,
    load_all_parts,
    mine,
    require_settings_of,
    settled,
    step_of_mining,
    with_cache,
)
from bessemer.recipes.lane_training import open_to_train
from bessemer.recipes.output import require_own
from bessemer.recipes.pairs import PairMaterial
from bessemer.recipes.plan import CACHED, TO_RUN, plan_of, step_of
from bessemer.recipes.tasks import Part
from bessemer.training.checkpoints import last_whole_checkpoint
from bessemer.training.finetune import finetune as fit
from bessemer.workspace import Workspace, WouldRun


def plan_finetune(config: Config, *, resume: bool = True) -> dict[str, Any]:
    """A step for the negatives of each part that has none yet, and one for the model. Nothing is written.

    What is done is told only where all vectors are kept that lead to it: to compute them is what a dry run spares. So
    a model that gives other vectors than dense ones is always to run. Raises what `finetune` raises before it starts.
    """
    config = settled(config)
    require_own(config.out, FIGURES, "finetune")
    parts = load_all_parts(config)
    base = open_to_train(config, config.model)
    require_settings_of(parts, base)
    each = [seconds_per_text(base.encode_passages, _texts(part)) for part in parts]
    with Workspace(config.workspace, seed=config.seed, dry_run=True) as workspace:
        mining = [_mining(*both, base, workspace) for both in zip(parts, each, strict=True)]
        steps = [step for step, _ in mining if step]
        known = all(step["state"] == CACHED for step in steps) and all(_pool_is_kept(p, base, workspace) for p in parts)
        state: dict[str, Any] = {"state": TO_RUN}
        if known and resume:
            state = _state_of_model(config, parts, [mined for _, mined in mining], base, workspace)
    seconds = sum(_seconds(*both) for both in zip(parts, each, strict=True))
    return plan_of([*steps, {**step_of(MODEL, seconds), **state}], out=config.out)


def _mining(
    part: Part, each: float, base: Trainable, workspace: Workspace
) -> tuple[dict[str, Any] | None, Mined | None]:
    """The step, where negatives are to be found, and what it found, where it is done."""
    if isinstance(part.material, PairMaterial) or not is_mined(part):
        return None, None
    collection, name = part.material.collection, step_of_mining(part)
    if isinstance(base, ForeignEncoder):  # by words
        step = step_of(name)
    else:
        texts = collection.passages, collection.splits["train"].queries
        left = to_encode(base, *texts, workspace.root / "embeddings")
        step = left.step(name, left.n_left * each)
        if left.n_left:
            return step, None
    try:
        mined = mine(part, with_cache(base, workspace), workspace)
    except WouldRun:
        return step, None
    return {**step, "state": CACHED}, mined


def _pool_is_kept(part: Part, base: Trainable, workspace: Workspace) -> bool:
    """Whether the passages that dev is judged on are found without encoding."""
    if isinstance(part.material, PairMaterial):
        return True
    collection = part.material.collection
    dev = collection.splits.get("dev")
    if dev is None or not dev.queries:
        return True
    return not to_encode(base, collection.passages, dev.queries, workspace.root / "embeddings").n_left


def _state_of_model(
    config: Config, parts: Sequence[Part], mined: Sequence[Mined | None], base: Trainable, workspace: Workspace
) -> dict[str, Any]:
    """``done``: the step of the checkpoint from which training would go on."""
    inputs = inputs_of_fit(config, parts, mined, base, workspace)
    if workspace.is_done(MODEL, fit, *inputs):
        return {"state": CACHED, "seconds": 0.0}
    checkpoint = last_whole_checkpoint(workspace.unfinished(MODEL, fit, *inputs) / "checkpoints")
    return {"state": TO_RUN, "done": int(Path(checkpoint).name.split("-")[1]) if checkpoint else 0}


def _texts(part: Part) -> list[str]:
    """That training encodes."""
    if isinstance(part.material, PairMaterial):
        return [pair.left for pair in part.material.train]
    return [passage.indexed_text for passage in part.material.collection.passages]


def _seconds(part: Part, each: float) -> float:
    """Of training."""
    if isinstance(part.material, PairMaterial):
        return training_seconds(part.config.finetune, len(part.material.train), 0, 0, each)
    collection = part.material.collection
    n_dev = len(collection.splits["dev"].queries) if "dev" in collection.splits else 0
    sizes = n_pairs(collection.splits["train"]), n_dev, len(collection.passages)
    return training_seconds(part.config.finetune, *sizes, each)
