"""Fine-tuning alone: judged data in, a sentence-transformers folder with training.json out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bessemer.config import Config, FinetuneConfig
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder
from bessemer.encoders.foreign import ForeignEncoder
from bessemer.encoders.sparse_start import with_heads
from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError
from bessemer.formats.pairs import LabelledPair
from bessemer.negatives import Mined, mine_hard_negatives, require_known
from bessemer.recipes.data import Material, guide_of, miner_of, mining_of, open_reranker
from bessemer.recipes.lane_training import NoVectors, by_words, open_to_train, own_lane_over, settled_for_kind
from bessemer.recipes.output import claim_folder, installed_versions, plain, publish_folder, require_own
from bessemer.recipes.pairs import PairMaterial
from bessemer.recipes.systems import bm25_over
from bessemer.recipes.tasks import Part, load_parts, require_teacher_scores, unprompted, with_task_prompts
from bessemer.training.batches import TrainingData
from bessemer.training.dev_pool import EvaluationPool, NamedPool, TaskPools, build_dev_pool
from bessemer.training.distributed import join_processes
from bessemer.training.finetune import Selection, Tuned, discard_checkpoints
from bessemer.training.finetune import finetune as fit
from bessemer.training.pair_pool import PairPool
from bessemer.training.pair_task import PairData
from bessemer.training.preflight import require_settings, require_settings_of_pairs
from bessemer.workspace import Workspace

FIGURES = "training.json"
MODEL = "model"


def finetune(config: Config, *, resume: bool = True) -> Mapping[str, Any]:
    """Tune ``config.model`` on the train split of ``config.data`` and write the model folder ``config.out``.

    With ``config.tasks``, on several datasets together. Negatives that the data bring are used; without any they are
    mined. Checkpoints and the interpolation share are chosen on dev, which is carved from train where the data have
    none. Running it again goes on from the last checkpoint, or returns what is done; with ``resume`` False it trains
    anew. Returns training.json.

    Under torchrun all processes train, on batches of ``per_device_train_batch_size`` queries each; the first one does
    all the rest.
    """
    config = settled(config)
    with (
        join_processes(config.device) as processes,
        Workspace(config.workspace, seed=config.seed, processes=processes) as workspace,
    ):
        with processes.first_ahead():
            if processes.is_first:
                claim_folder(config.out)
                require_own(config.out, FIGURES, "finetune")
            parts = load_all_parts(config)
            base = open_base(config, parts)
            require_settings_of(parts, base)
            cached = with_cache(base, workspace)
            mined = [mine(part, cached, workspace) for part in parts]
            inputs = inputs_of_fit(config, parts, mined, base, workspace)
            if processes.is_first and not resume:
                workspace.forget(MODEL, fit, *inputs)
        tuned = workspace.step(MODEL, fit, *inputs)
        return processes.from_first(lambda: _publish(config, tuned, parts, mined, base))


def settled(config: Config) -> Config:
    """As `settled_for_kind`. Raises ConfigError without data or tasks, and with both."""
    if (config.data is None) == (not config.tasks):
        raise ConfigError(
            "finetune needs --data (a BEIR folder, BGE JSONL or a TSV of pairs), or `tasks` in --config; not both"
        )
    return settled_for_kind(config)


def load_all_parts(config: Config) -> list[Part]:
    """As `load_parts`. Raises DataError for parts without the teacher's scores that they are to learn from."""
    parts = load_parts(config)
    require_teacher_scores(parts)
    return parts


def require_settings_of(parts: Sequence[Part], base: Trainable) -> None:
    """Raises ConfigError for settings that training would refuse, before anything is mined."""
    for part in parts:
        if isinstance(part.material, PairMaterial):
            labelled = isinstance(next(iter(part.material.train), None), LabelledPair)
            require_settings_of_pairs(part.config.finetune, base, labelled=labelled, alone=len(parts) == 1)
        else:
            require_settings(part.config.finetune, base)
            require_known(part.config.negatives)


def with_cache(base: Trainable, workspace: Workspace) -> Encoder:
    """With vectors on disk, where it has none but dense ones."""
    return CachedEncoder(base, workspace.root / "embeddings") if isinstance(base, DenseEncoder) else base


def inputs_of_fit(
    config: Config, parts: Sequence[Part], mined: Sequence[Mined | None], base: Trainable, workspace: Workspace
) -> tuple[Any, ...]:
    """What the step MODEL is called with."""
    run = config.finetune if len(parts) == 1 else None
    data = [_training_data(*each, workspace, run) for each in zip(parts, mined, strict=True)]
    selection = _selection(config, parts, with_cache(base, workspace))
    encoder = with_task_prompts(base, [part.task for part in parts], config)
    return data, encoder, selection, config.finetune, config.seed


def open_base(config: Config, parts: Sequence[Part]) -> Trainable:
    """The model to tune, with heads where they are to train and it has none."""
    encoder = open_to_train(config, config.model)
    materials = [part.material for part in parts if isinstance(part.material, Material)]
    texts = [passage.indexed_text for material in materials for passage in material.collection.passages]
    if config.finetune.trained_head == "dense" or not texts or not isinstance(encoder, DenseEncoder):
        return encoder
    return with_heads(encoder, texts, config.seed)


def _publish(
    config: Config, tuned: Tuned, parts: Sequence[Part], mined: Sequence[Mined | None], base: Trainable
) -> Mapping[str, Any]:
    discard_checkpoints(tuned)
    result = training_json(tuned, parts, mined, config, base)
    publish_folder(tuned.model, Path(config.out), {FIGURES: result})
    return result


def training_json(
    tuned: Tuned, parts: Sequence[Part], mined: Sequence[Mined | None], config: Config, base: Trainable
) -> dict[str, Any]:
    """``mined``: per part, where negatives were mined for it."""
    after = open_to_train(config, str(tuned.model))
    accounts = [part.material.account for part in parts]
    reports = [found.report if found else None for found in mined]
    warnings = [
        f"{part.name}: {text}".removeprefix(": ")
        for part, report in zip(parts, reports, strict=True)
        for text in (*part.material.account["warnings"], *(report.warnings if report else ()))
    ]
    tasks = [{**part.material.account, "name": part.name, "task": part.task} for part in parts]
    data = accounts[0] if len(parts) == 1 else {"tasks": tasks}
    extra = {
        "data": {**data, "warnings": [*warnings, *unprompted(parts, config, base), *_of_negatives(parts, base)]},
        "negatives": reports[0] if len(parts) == 1 else {part.name: r for part, r in zip(parts, reports, strict=True)},
        "versions": installed_versions(),
        "fingerprints": {"base": base.fingerprint, "tuned": after.fingerprint},
    }
    return {**plain(tuned.report), **plain(extra)}


def _training_data(
    part: Part, mined: Mined | None, workspace: Workspace, run: FinetuneConfig | None
) -> TrainingData | PairData:
    """``run``: the settings of the run, where this is its only part."""
    material, name = part.material, "" if run else part.name
    settings = None if run == part.config.finetune else part.config.finetune
    if isinstance(material, PairMaterial):
        return PairData(material.train, name, part.task, settings)
    train, passages, scores = material.collection.splits["train"], material.collection.passages, material.teacher_scores
    return TrainingData(
        train,
        passages,
        mined.negatives if mined else material.given_negatives,
        miner_of(part.config, train, passages),
        name=name,
        task=part.task,
        settings=settings,
        guide=guide_of(part.config, workspace.root / "embeddings"),
        teacher_scores={q.query_id: scores[q.query_id] for q in train.queries if q.query_id in scores},
    )


def is_mined(part: Part) -> bool:
    """Whether its negatives are to be found."""
    given = isinstance(part.material, PairMaterial) or part.material.given_negatives
    return not given and part.config.finetune.n_negatives > 0 and not part.config.finetune.frozen_passages


def mine(part: Part, encoder: Encoder, workspace: Workspace) -> Mined | None:
    """By the base model as it is, with its own prompts; for a model without dense vectors, by words. None where the
    data bring negatives, or none are used."""
    config, material = part.config, part.material
    if isinstance(material, PairMaterial) or not is_mined(part):
        return None
    train, passages = material.collection.splits["train"], material.collection.passages
    how = encoder, mining_of(config)
    if isinstance(encoder, ForeignEncoder):
        how = NoVectors(), by_words(mining_of(config))
    asked = (train, passages, *how, config.seed, open_reranker(config))
    return workspace.step(step_of_mining(part), mine_hard_negatives, *asked)


def step_of_mining(part: Part) -> str:
    return f"negatives-{part.name}".rstrip("-")


def _of_negatives(parts: Sequence[Part], base: Trainable) -> list[str]:
    """What a reader should know of where hard negatives come from."""
    return [*_mined_by_words(parts, base), *_given_and_replaced(parts)]


def _given_and_replaced(parts: Sequence[Part]) -> list[str]:
    """A note for each part that brings negatives, where training finds others."""
    notes = []
    for part in parts:
        settings = part.config.finetune
        n = len(part.material.given_negatives) if isinstance(part.material, Material) else 0
        if n and settings.frozen_passages:
            notes.append(
                f"{part.name}: negatives given for {n} queries are not used: frozen_passages retrieves its own"
            )
        elif n and settings.refresh_steps:
            notes.append(f"{part.name}: negatives given for {n} queries serve until refresh_steps mines others")
    return [note.removeprefix(": ") for note in notes]


def _mined_by_words(parts: Sequence[Part], base: Trainable) -> list[str]:
    """A note for each part whose hard negatives come from words for want of dense vectors."""
    if not isinstance(base, ForeignEncoder):
        return []
    mined = [
        p
        for p in parts
        if isinstance(p.material, Material) and not p.material.given_negatives and p.config.finetune.n_negatives
    ]
    how = "hard negatives mined by words ({}), without margins: the model gives no dense vectors"
    return [f"{p.name}: {how.format(by_words(p.config.negatives).strategy)}".removeprefix(": ") for p in mined]


def _selection(config: Config, parts: Sequence[Part], encoder: Encoder) -> Selection | None:
    """None where there are no dev queries or pairs at all."""
    pools = [NamedPool(part.name, part.task, pool) for part in parts if (pool := dev_pool(part, encoder))]
    if not pools:
        return None
    together = pools[0].pool if len(parts) == 1 else TaskPools(tuple(pools))
    return Selection(together, None, config.evaluation.general_margin)


def dev_pool(part: Part, encoder: Encoder) -> EvaluationPool | PairPool | None:
    """None where there are no dev queries or pairs."""
    if isinstance(part.material, PairMaterial):
        return part.material.pool()
    dev = part.material.collection.splits.get("dev")
    if dev is None or not dev.queries:
        return None
    passages = part.material.collection.passages
    texts = [query.searched_text for query in dev.queries]
    retrieved = [system.search(texts, 100) for system in (bm25_over(passages), own_lane_over(passages, encoder))]
    base = dict(zip((query.query_id for query in dev.queries), retrieved[1], strict=True))
    pool = build_dev_pool(dev, passages, retrieved, part.config.seed, base)
    return pool.ranked_by(part.config.finetune.trained_head)
