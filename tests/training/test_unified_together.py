"""All representations trained together with negatives mined anew, with a guide, and as one of several tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch
import unified_world
from test_processes import crowded
from test_resume import Killed, deadly, fit, nearest, outcome
from test_unified_task import plain_scores
from torch import Tensor, nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoded
from bessemer.encoders.load import load_encoder
from bessemer.encoders.prompts import Prompts
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ConfigError
from bessemer.training.batches import TrainingData
from bessemer.training.dev_pool import EvaluationPool
from bessemer.training.finetune import Selection, Tuned, finetune
from bessemer.training.open_trainer import open_trainer
from bessemer.training.tasks import Batch, Task
from bessemer.training.trainer import ContrastiveTrainer
from bessemer.types import HardNegatives, Judged, Passage, Query
from fixed_vectors import FixedVectors

HEAD = "0.heads.multi_vector.weight"  # no word of a query of the tiny world is in a passage: `sparse` learns nothing
Step = tuple[str, Batch]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The task and the batch of every step that is trained from now on."""
    seen: list[Step] = []
    plain = ContrastiveTrainer.step_on

    def step_on(self: ContrastiveTrainer, model: nn.Module, task: Task, batch: Batch, *arguments: Any) -> Tensor:
        seen.append((task.name, batch))
        return plain(self, model, task, batch, *arguments)

    monkeypatch.setattr(ContrastiveTrainer, "step_on", step_on)
    return seen


def unified_fit(model: Path, folder: Path, dev: EvaluationPool | None = None, **settings: Any) -> Tuned:
    """Eight steps of eight examples each, a refresh after the third and the sixth."""
    given = {"head": "unified", "bf16": False, "refresh_steps": 3, "learning_rate": 1e-3, "dropout": False}
    given |= {"logging_steps": 1, **settings}
    encoder = unified_world.opened(model, dropout=bool(given.pop("dropout")))
    return fit(encoder, folder, dev or tiny_world.dev_pool().ranked_by("unified"), **given)


def weights(tuned: Tuned) -> dict[str, Tensor]:
    return load_encoder(str(tuned.model), device="cpu", bf16=False).copy_weights()


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, weight in after.items() if not torch.equal(weight, before[name])}


def test_refreshed_negatives_are_those_of_the_weights_and_the_next_step_has_them(
    tiny_bert_model: Path, tmp_path: Path, steps: list[Step]
) -> None:
    mined: list[tuple[dict[str, Tensor], list[HardNegatives]]] = []

    def watching(encoder: DenseEncoder) -> list[HardNegatives]:
        found = nearest(encoder)
        mined.append((encoder.copy_weights(), found))
        return found

    own = unified_world.opened(tiny_bert_model).copy_weights()
    tuned = unified_fit(tiny_bert_model, tmp_path / "refreshed", miner=watching)
    assert len(steps) == 8
    assert len(mined) == 2
    assert HEAD in moved(own, mined[0][0])
    assert HEAD in moved(mined[0][0], mined[1][0])
    assert mined[0][1] != mined[1][1]

    given = {row.query_id: row.passage_ids for row in tiny_world.negatives()}
    of_weights = [{row.query_id: row.passage_ids for row in found} for _, found in mined]
    for k, source in enumerate([given] * 3 + [of_weights[0]] * 3 + [of_weights[1]] * 2):
        batch = steps[k][1]
        positives = batch["columns"][batch["positives"]].tolist()  # passage i is the answer to query i alone
        allowed = {f"p{i}" for i in positives} | {p for i in positives for p in source[f"q{i}"]}
        found = {f"p{i}" for i in batch["columns"].tolist()}
        assert found <= allowed, k
        assert len(found) > len(positives), k

    plain = unified_fit(tiny_bert_model, tmp_path / "plain", refresh_steps=0)
    assert HEAD in moved(weights(plain), weights(tuned))
    losses = [[point["loss"] for point in run.report.loss_curve] for run in (tuned, plain)]
    assert losses[0][:3] == losses[1][:3]
    assert losses[0][3:] != losses[1][3:]


def test_a_killed_run_with_refreshed_negatives_of_all_representations_goes_on(
    tiny_bert_model: Path, tmp_path: Path
) -> None:
    """Killed at step 6, after the refresh of step 3 and the checkpoint of step 4."""
    run = partial(unified_fit, tiny_bert_model, miner=nearest, dropout=True)
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "broken", deadly(tiny_world.dev_pool(), 3).ranked_by("unified"))
    again = run(tmp_path / "broken")
    assert outcome(again) == outcome(whole)
    assert not moved(weights(whole), weights(again))


def guide_of(data: TrainingData) -> FixedVectors:
    """Puts every fourth passage above the others, whatever is asked."""
    texts = {passage.indexed_text: (1.0 if i % 4 == 1 else 0.5,) for i, passage in enumerate(data.passages)}
    return FixedVectors({**texts, **{query.text: (1.0,) for query in data.judged.queries}})


def apart() -> TrainingData:
    """As `crowded`, with texts that are only queries or only passages, each passage of its own words."""
    passages = [Passage(f"p{i}", f"d{i}", f"w{i} w{(i * 7) % 90} w{(i * 3) % 40}") for i in range(40)]
    queries = tuple(Query(f"q{i}", f"w{(i * 5) % 90} w{100 + i}") for i in range(16))
    negatives = [HardNegatives(q.query_id, (f"p{(i + 13) % 40}",), (0.5,), {}, "given") for i, q in enumerate(queries)]
    return TrainingData(Judged(queries, {f"q{i}": {f"p{2 * i}": 1} for i in range(16)}), passages, negatives)


def test_a_guide_takes_what_it_tells_out_of_every_representation(tiny_bert_model: Path, tmp_path: Path) -> None:
    """Each lane's part against InfoNCE written out, over scores of the texts one by one."""
    data = apart()
    told = {i for i in range(40) if i % 4 == 1}
    assert not told & {2 * i for i in range(16)}  # none of them is a positive
    encoder = unified_world.opened(tiny_bert_model)
    settings = {"head": "unified", "bf16": False, "temperature": 0.1}
    guided = FinetuneConfig(**settings, guide="fixed")
    (task,) = open_trainer(
        [dataclasses.replace(data, guide=guide_of(data))], encoder, None, guided, 42, tmp_path / "a"
    ).tasks
    (plain,) = open_trainer([data], encoder, None, FinetuneConfig(**settings), 42, tmp_path / "b").tasks
    batch = task.batch(range(16))
    columns = batch["columns"].tolist()
    assert 2 < len(told & set(columns)) < 16
    lanes = plain_scores(
        encoder, [query.text for query in data.judged.queries], [data.passages[p].indexed_text for p in columns]
    )
    lanes["ensemble"] = lanes["dense"] + 0.3 * lanes["sparse"] + lanes["multi_vector"]
    task.loss([task.embed(encoder.model, features) for features in task.mini_batches(batch)], batch)
    unguided = plain.batch(range(16))
    plain.loss([plain.embed(encoder.model, features) for features in plain.mini_batches(unguided)], unguided)
    for lane, scores in lanes.items():
        expected = 0.0
        for i, row in enumerate(scores / 0.1):
            kept = [j for j, p in enumerate(columns) if p not in told]
            expected += (row[kept].logsumexp(dim=0) - row[columns.index(2 * i)]).item() / 16
        assert task.parts[f"loss_{lane}"].item() == pytest.approx(expected, rel=1e-4), lane
        assert plain.parts[f"loss_{lane}"].item() > expected + 1e-3, lane  # fewer negatives with the guide


class Dynamic(FixedVectors):
    """A guide that remembers what it encoded."""

    def __init__(self, vectors: dict[str, tuple[float, ...]]) -> None:
        super().__init__(vectors)
        self.seen: list[str] = []

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        self.seen += texts
        return super().encode_passages(texts)


def test_a_guide_masks_what_a_refresh_brings(tiny_bert_model: Path, tmp_path: Path, steps: list[Step]) -> None:
    """All passages but the even ones are told; the refresh brings p19 to every query, given negatives had none."""

    def p19(encoder: DenseEncoder) -> list[HardNegatives]:
        ids = [row.query_id for row in tiny_world.negatives()]
        return [HardNegatives(q, ("p19",) if q != "q19" else ("p18",), (0.5,), {}, "p19") for q in ids]

    some = [row for row in tiny_world.train().queries if row.query_id != "q19"]
    judged = Judged(tuple(some), {q.query_id: {f"p{q.query_id[1:]}": 1} for q in some})
    passages = tiny_world.passages()
    vectors = {p.indexed_text: ((1.0,) if i % 2 else (0.5,)) for i, p in enumerate(passages)}
    guide = Dynamic({**vectors, **{q.text: (1.0,) for q in some}})
    config = FinetuneConfig(
        head="unified", bf16=False, guide="fixed", refresh_steps=2, max_steps=4, per_device_train_batch_size=8
    )
    data = TrainingData(judged, passages, (), p19, guide=guide)
    finetune([data], unified_world.opened(tiny_bert_model), None, config, 42, tmp_path)
    assert guide.seen.count(passages[19].indexed_text) == 1
    assert len(guide.seen) == len(set(guide.seen))
    for k, (_, batch) in enumerate(steps):
        columns = batch["columns"].tolist()
        assert (19 in columns) == (k >= 2), k
        for i, row in enumerate(batch["excluded"].tolist()):
            own = columns[batch["positives"][i]]
            told = {p for p in columns if p % 2} if own % 2 == 0 else set()  # an odd positive has the guide's best
            assert {p for p, out in zip(columns, row, strict=True) if out} == told | {own}, (k, own)


def two_tasks() -> list[TrainingData]:
    """Crowded queries as qa; the tiny world as faq, by other settings."""
    train, passages = tiny_world.train(), tiny_world.passages()
    faq = FinetuneConfig(
        head="unified", bf16=False, temperature=0.2, per_device_train_batch_size=5, n_negatives=2, learning_rate=1e-3
    )
    return [
        dataclasses.replace(crowded(), name="a", task="qa"),
        TrainingData(train, passages, tiny_world.negatives(), name="b", task="faq", settings=faq),
    ]


def parts_of(
    data: Sequence[TrainingData], encoder: UnifiedEncoder, config: FinetuneConfig, folder: Path
) -> dict[str, dict[str, float]]:
    """Of the loss of each task over all its examples at once, without dropout."""
    found = {}
    encoder.model.eval()
    for task in open_trainer(data, encoder, None, config, 42, folder / "measured").tasks:
        batch = task.batch(range(len(task)))
        with torch.no_grad():
            task.loss([task.embed(encoder.model, features) for features in task.mini_batches(batch)], batch)
        found[task.name] = {name: part.item() for name, part in task.parts.items()}
    return found


def test_one_of_several_tasks(tiny_bert_model: Path, tmp_path: Path, steps: list[Step]) -> None:
    """Batches of one task, with its prompt and its settings; every lane of both learns, and both self-distil."""
    encoder = unified_world.opened(tiny_bert_model)
    prompts = {"qa": Prompts("w180 ", "w181 "), "faq": Prompts("w182 ", "w183 ")}
    data = two_tasks()
    config = FinetuneConfig(
        head="unified", bf16=False, per_device_train_batch_size=8, max_steps=16, learning_rate=1e-3, logging_steps=1,
        self_distillation=True, self_distillation_start=8, task_sampling="round_robin",
    )  # fmt: skip
    tuned = finetune(data, encoder.with_prompts(prompts), None, config, 42, tmp_path)
    assert [name for name, _ in steps] == ["a", "b"] * 8
    tokens = {"a": {180 + 4, 181 + 4}, "b": {182 + 4, 183 + 4}}  # ids of the prompts' words
    for name, batch in steps:
        assert len(batch["positives"]) == {"a": 8, "b": 5}[name]
        used = {
            int(i) for side in ("queries", "passages") for f in batch[side]["features"] for i in f["input_ids"][:, 1]
        }
        assert used == tokens[name]
    curve = tuned.report.loss_curve
    assert [("loss_distilled_sparse" in point) for point in curve] == [False] * 8 + [True] * 8
    after = load_encoder(str(tuned.model), device="cpu", bf16=False)
    assert isinstance(after, UnifiedEncoder)
    before, trained = (parts_of(data, model, config, tmp_path) for model in (encoder.with_prompts(prompts), after))
    for task in ("a", "b"):
        for lane in ("dense", "multi_vector", "ensemble"):
            assert trained[task][f"loss_{lane}"] < before[task][f"loss_{lane}"] - 0.02, (task, lane)
    assert set(after.task_prompts) == {"qa", "faq"}


def test_each_task_has_its_own_temperature(tiny_bert_model: Path, tmp_path: Path) -> None:
    """The same data and batch under 0.05 and 0.2; the dense part of each written out."""
    encoder = unified_world.opened(tiny_bert_model)
    base = FinetuneConfig(head="unified", bf16=False)
    data = apart()
    other = dataclasses.replace(data, name="b", settings=base.model_copy(update={"temperature": 0.2}))
    trainer = open_trainer([dataclasses.replace(data, name="a"), other], encoder, None, base, 42, tmp_path)
    for task, temperature in zip(trainer.tasks, (0.05, 0.2), strict=True):
        batch = task.batch(range(16))
        task.loss([task.embed(encoder.model, features) for features in task.mini_batches(batch)], batch)
        columns = batch["columns"].tolist()
        texts = [data.passages[p].indexed_text for p in columns]
        lanes = plain_scores(encoder, [query.text for query in data.judged.queries], texts)
        rows = torch.stack([lanes["dense"], lanes["multi_vector"]]) / temperature
        target = torch.tensor([columns.index(2 * i) for i in range(16)])
        dense, multi = (nn.functional.cross_entropy(row, target).item() for row in rows)
        assert task.parts["loss_dense"].item() == pytest.approx(dense, rel=1e-4)
        assert task.parts["loss_multi_vector"].item() == pytest.approx(multi, rel=1e-4)


def test_a_refresh_of_one_of_several_tasks_leaves_the_other_alone(
    tiny_bert_model: Path, tmp_path: Path, steps: list[Step]
) -> None:
    first, second = two_tasks()
    called: list[Encoded] = []

    def p19(encoder: DenseEncoder) -> list[HardNegatives]:
        called.append(encoder.encode_passages(["w1"]))
        return [HardNegatives(f"q{i}", ("p19" if i < 19 else "p18",), (0.5,), {}, "p19") for i in range(20)]

    second = dataclasses.replace(second, miner=p19)
    config = FinetuneConfig(
        head="unified", bf16=False, per_device_train_batch_size=8, max_steps=8, task_sampling="round_robin",
        refresh_steps=4,
    )  # fmt: skip
    selection = Selection(tiny_world.dev_pool().ranked_by("unified"), None, 1.0)
    finetune([first, second], unified_world.opened(tiny_bert_model), selection, config, 42, tmp_path)
    assert len(called) == 1
    for k, (name, batch) in enumerate(steps):
        columns = batch["columns"].tolist()
        positives = set(batch["columns"][batch["positives"]].tolist())
        negatives = set(columns) - positives
        if name == "b" and k >= 4:
            assert negatives <= {18, 19}, k
        else:
            assert len(negatives) > 2, k


def test_a_guide_for_one_of_several_tasks_needs_its_name_there(tiny_bert_model: Path, tmp_path: Path) -> None:
    first, second = two_tasks()
    guided = second.settings.model_copy(update={"guide": "fixed"}) if second.settings else None
    second = dataclasses.replace(second, settings=guided, guide=guide_of(second))
    config = FinetuneConfig(head="unified", bf16=False, per_device_train_batch_size=8)
    encoder = unified_world.opened(tiny_bert_model)
    alone, masked = open_trainer([first, second], encoder, None, config, 42, tmp_path).tasks
    excluded = masked.batch(range(20))["excluded"]
    plain = open_trainer([first, two_tasks()[1]], encoder, None, config, 42, tmp_path).tasks[1].batch(range(20))
    assert int(excluded.sum()) > int(plain["excluded"].sum())
    assert alone.batch(range(8))["excluded"].shape[0] == 8
    with pytest.raises(ConfigError, match="give both or neither"):
        open_trainer([first, dataclasses.replace(second, guide=None)], encoder, None, config, 42, tmp_path)
